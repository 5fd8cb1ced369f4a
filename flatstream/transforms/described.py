"""The transforms that a description names: undone for a reader, and done again for a writer that appends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flatstream._core.framing.deframer import NonEmptyDeframer
from flatstream.framing import Deframer, Framer

__all__ = ["COMPRESSION", "ENCRYPTION", "framer_with", "undoing", "undone"]

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
    _check_wanted(known, cipher)
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
    transforms = list(transforms)
    _check_wanted(transforms, cipher)
    for transform in reversed(transforms):
        parameters: Mapping[str, str] = dict(transform.parameters)
        if transform.name == COMPRESSION:
            from flatstream.transforms import compression

            framer = compression.described_framer(framer, parameters, transform.data)
        elif transform.name == ENCRYPTION:
            framer = _encryption().framer_from_description(transform, cipher, framer)
        else:
            raise _unknown(transform, "framer")
    return framer


def undoing(
    deframer: Deframer, cipher: Any = None, *, allow_empty: bool | None = None
) -> Callable[[Any], Deframer | None]:
    """A function that gives the deframer for the frames behind a description; see `undone` for its errors.

    Parameters
    ----------
    deframer : Deframer
        Finds the frames.
    cipher : Cipher, optional
        For an encrypted stream. With one, a stream without a description is one that is encrypted.
    allow_empty : bool, optional
        False: messages that are empty are refused. Frames without any bytes always are, because every transform stores
        some.

    Returns
    -------
    callable
        Gets the Description, or None for a stream without one. It returns None if that says nothing of transforms.
    """
    stored = NonEmptyDeframer(deframer)

    def make(description: Any) -> Deframer | None:
        transforms = () if description is None else description.transforms
        if not transforms and cipher is None:
            return None
        made = undone(stored, transforms, cipher) if description is not None else _encryption().EncryptedDeframer(stored, cipher)
        return NonEmptyDeframer(made) if allow_empty is False else made

    return make


def _check_wanted(transforms: list[Any], cipher: Any) -> None:
    if cipher is not None and all(transform.name != ENCRYPTION for transform in transforms):
        # What comes from a stranger would be taken for what was encrypted.
        raise ValueError("a cipher is given, and the stream's description does not say that it is encrypted")


def _unknown(transform: Any, what: str) -> ValueError:
    return ValueError(
        f"the description names the transform {transform.name!r:.100}, which this version does not know: pass the {what} "
        "that knows it, or use a later version of flatstream"
    )


def _encryption() -> Any:
    import importlib

    return importlib.import_module("flatstream.transforms.encryption")

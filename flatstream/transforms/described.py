"""The transforms that a description names: undone for a reader, and done again for a writer that appends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flatstream._core.framing.deframer import NonEmptyDeframer
from flatstream.checksums import Checksum, ChecksumType
from flatstream.errors import FlatStreamError, InvalidFrameError
from flatstream.framing import Deframer, Framer, as_deframer

__all__ = [
    "COMPRESSION",
    "ENCRYPTION",
    "algorithm_of",
    "begins_as",
    "deframer_to_read",
    "encrypted_error",
    "framer_with",
    "is_encrypted",
    "undoing",
    "undone",
]

COMPRESSION = "compression"
ENCRYPTION = "encryption"


class CipherOfDescription:
    """What stands for a cipher until a description says of which algorithm it is, and the id of its key.

    Attributes
    ----------
    has_key : bool
        Whether it can make a cipher. Then a stream that is not encrypted is refused, as with a cipher.
    """

    has_key = False

    def cipher_for(self, transform: Any) -> Any:
        """The cipher of a stream whose description has `transform`; raises InvalidFrameError if there is none."""
        raise NotImplementedError


class IfReadable:
    """A cipher, or None, for a reader that gives what is stored if messages cannot be restored.

    Attributes
    ----------
    unreadable : str or None
        Why they cannot, when the description was read.
    """

    def __init__(self, cipher: Any = None) -> None:
        self.cipher = cipher
        self.unreadable: str | None = None


def begins_as(payload: Any) -> str | None:
    """Which transform the first payload of a stream without a description seems to be made by; None: by none.

    Of "encryption", the fields of a head fit its size. Of "compression", Zstandard is behind the byte that says so.
    """
    from flatstream.transforms._parts import read_head
    from flatstream.transforms._zstd import MAGIC

    if payload is None:
        return None
    payload = memoryview(payload)
    head = read_head(payload)
    if head is not None and head.version == 1 and head.algorithm in (1, 2) and head.part == 0:
        return ENCRYPTION
    return COMPRESSION if bytes(payload[:5]) == b"\1" + MAGIC else None


def is_encrypted(description: Any) -> bool:
    """Whether a Description says so; False for None."""
    return description is not None and any(transform.name == ENCRYPTION for transform in description.transforms)


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
    InvalidFrameError
        A transform is not known, or is not built in; there is no cipher, and the stream is encrypted; there is one, and
        it is not encrypted. (A stranger can have written the description, so this is no error of the caller.)
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
            # A stranger who could change the dictionary of a compression could change messages, and those are
            # authentic.
            deframer = _encrypted("from_description", transform, cipher, deframer, _require_description=len(known) > 1)
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
            framer = _encrypted("framer_from_description", transform, cipher, framer)
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
    choice = cipher if isinstance(cipher, IfReadable) else None
    cipher = cipher if choice is None else choice.cipher
    has_key = _has_key(cipher)

    def make(description: Any) -> Deframer | None:
        transforms = () if description is None else description.transforms
        if not transforms and not has_key:
            return None
        if description is None and isinstance(cipher, CipherOfDescription):
            return None
        try:
            made = (
                undone(stored, transforms, cipher)
                if description is not None
                else _encryption().EncryptedDeframer(stored, cipher)
            )
        except InvalidFrameError as error:
            if choice is None or has_key:
                raise
            choice.unreadable = error.message
            return None
        return NonEmptyDeframer(made) if allow_empty is False else made

    return make


def _has_key(cipher: Any) -> bool:
    return cipher.has_key if isinstance(cipher, CipherOfDescription) else cipher is not None


def _check_wanted(transforms: list[Any], cipher: Any) -> None:
    if _has_key(cipher) and all(transform.name != ENCRYPTION for transform in transforms):
        # What comes from a stranger would be taken for what was encrypted.
        raise InvalidFrameError("a cipher is given, and the stream's description does not say that it is encrypted")


def _encrypted(function: str, transform: Any, cipher: Any, inner: Any, **options: Any) -> Any:
    if cipher is None:
        key_id = dict(transform.parameters).get("key_id", "")
        name = "ChaCha20Poly1305" if algorithm_of(transform) == "chacha20-poly1305" else "Aes256Gcm"
        raise encrypted_error(transform, f"pass cipher={name}(key, key_id={key_id!r:.300})")
    if isinstance(cipher, CipherOfDescription):
        cipher = cipher.cipher_for(transform)
    try:
        return getattr(_encryption(), function)(transform, cipher, inner, **options)
    except FlatStreamError:
        raise
    except ValueError as error:
        # Of another algorithm, for instance.
        raise InvalidFrameError(str(error)) from error


def algorithm_of(transform: Any) -> str:
    """The algorithm of an encryption, as a description says it."""
    return str(dict(transform.parameters).get("algorithm", ""))


def encrypted_error(transform: Any, advice: str) -> InvalidFrameError:
    """The error for an encrypted stream without a key; the advice says what to do."""
    key_id = dict(transform.parameters).get("key_id", "")
    return InvalidFrameError(
        f"the stream is encrypted ({algorithm_of(transform):.100}, key id {key_id!r:.300}): {advice}"
    )


def _unknown(transform: Any, what: str) -> InvalidFrameError:
    return InvalidFrameError(
        f"the description names the transform {transform.name!r:.100}, which this version does not know: pass the "
        f"{what} that knows it, or use a later version of flatstream"
    )


def _encryption() -> Any:
    import importlib

    return importlib.import_module("flatstream.transforms.encryption")


def deframer_to_read(
    deframer: Deframer | Checksum | ChecksumType | str | None,
    cipher: Any = None,
    *,
    allow_empty: bool | None = None,
    on_error: str | None = "raise",
) -> tuple[Deframer, Callable[[Any], Deframer | None] | None]:
    """The deframer with which a reader begins, and the function that gives the one behind a description.

    The function is None for a `deframer` that is a Deframer, which is used as it is. With an `on_error` other than
    "raise", empty payloads are refused unless they are allowed.

    Raises
    ------
    TypeError, ValueError
        See `as_deframer`; or there is a cipher, and a deframer that was made already.
    """
    refuses_empty = allow_empty is None and on_error is not None and on_error != "raise"
    made = as_deframer(deframer, allow_empty=False if refuses_empty else allow_empty)
    if isinstance(deframer, Deframer):
        if cipher is not None:
            raise TypeError(f"a cipher is for the deframer to be made: got one, and a deframer: {deframer!r:.100}")
        return made, None
    undo = undoing(as_deframer(deframer), cipher, allow_empty=allow_empty)
    return undo(None) or made, undo

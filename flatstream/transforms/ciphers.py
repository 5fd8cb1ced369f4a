"""Ciphers: an algorithm, the caller's keys, and what is derived from them. docs/encryption.md has the construction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Aes256Gcm", "ChaCha20Poly1305", "Cipher"]

KEY_SIZE = 32
MAX_KEY_ID_SIZE = 255

_PART_LABEL = b"flatstream encryption 1 part"
_KEY_LABEL = b"flatstream encryption 1 key"


class Aead(Protocol):
    """What `cryptography` has for an algorithm with a key."""

    def encrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes:
        """The ciphertext, and the tag behind it."""

    def decrypt(self, nonce: Buffer, data: Buffer, associated_data: Buffer | None) -> bytes:
        """The plaintext; raises InvalidTag."""


class Secret:
    """Bytes that are in no repr, no pickle and no copy."""

    __slots__ = ("_value",)

    # Not checked yet, for what a caller gave.
    _value: Any

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def load_cryptography() -> Any:
    """The module with the algorithms of `cryptography`."""
    try:
        from cryptography.hazmat.primitives.ciphers import aead
    except ImportError as error:
        raise ImportError(
            "encrypted streams need the package cryptography: pip install 'flatstream[encryption]'"
        ) from error
    return aead


class Cipher:
    """An algorithm with a key, or with a function that has keys. Use `Aes256Gcm` or `ChaCha20Poly1305`.

    A cipher does not change, and any number of writers and readers, in any threads, may use one: each of them derives
    keys of its own from the caller's. Its repr does not show the key. It cannot be pickled, unless it has a function of
    a module instead of a key: then the pickle has the function's name.

    Parameters
    ----------
    key : bytes-like or callable
        The key: 32 random bytes, as ``secrets.token_bytes(32)`` makes them; never a password. Or a function that
        returns the key for a key id, ``key(key_id)``, and raises LookupError if it has none. A reader calls it with the
        id that a part of the stream has, before that part is authenticated: to use the id as the name of a file, check
        it first. Nothing is remembered: a function that asks a slow service may do so.
    key_id : str
        Tells keys apart, when there are several: a printable text of at most 255 bytes in UTF-8, which is stored in the
        clear. A writer writes it. A reader with a single key accepts only parts with this id.
    context : bytes-like
        What the stream is, if the key serves several: the name of its host, for example. It is not stored. A reader
        with another context refuses the stream.

    Attributes
    ----------
    name : str
        The name of the algorithm.
    number : int
        Its number in the head of a part.

    Raises
    ------
    TypeError, ValueError
        The key has another type or size, or the key id or the context is wrong.
    ImportError
        The package ``cryptography`` is not installed.
    """

    __slots__ = ("_context", "_key", "_key_id", "_store")

    name: ClassVar[str] = ""
    number: ClassVar[int] = 0

    _key: Secret | None
    _store: Callable[[str], Buffer | None] | None

    def __init__(
        self, key: Buffer | Callable[[str], Buffer | None], *, key_id: str = "", context: Buffer = b""
    ) -> None:
        if not self.number:
            raise TypeError(f"{type(self).__name__} has no algorithm: use Aes256Gcm or ChaCha20Poly1305")
        load_cryptography()
        # First of all, so that a repr of the object shows nothing else if an argument is wrong.
        self._store, self._key = (key, None) if callable(key) else (None, Secret(key))
        self._key_id, self._context = "", b""
        del key
        if self._key is not None:
            self._key = _checked_key(self._key, "key")
        self._key_id = _checked_key_id(key_id)
        try:
            self._context = bytes(memoryview(context))
        except TypeError:
            raise TypeError(f"context must be bytes-like, got {type(context).__name__}") from None

    @property
    def key_id(self) -> str:
        """The id of the key that writers use."""
        return self._key_id

    @property
    def context(self) -> bytes:
        """What the stream is, as writer and reader agree on it."""
        return self._context

    def __repr__(self) -> str:
        shown = "" if self._store is None else f"{getattr(self._store, '__qualname__', type(self._store).__name__)}, "
        context = f", context={self._context!r:.100}" if self._context else ""
        return f"{type(self).__name__}({shown}key_id={self._key_id!r}{context})"

    def __copy__(self) -> Cipher:
        return self

    def __deepcopy__(self, memo: Any) -> Cipher:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle refers to a function by its name. Of a method, it has the object too, and that has the keys.
        if not isinstance(self._store, FunctionType):
            raise TypeError(
                f"{type(self).__name__} holds a key and is not pickled; one with a function of a module for its keys is"
            )
        return _unpickled, (type(self), self._store, self._key_id, self._context)

    # For writers and readers

    def _opens(self, key_id: str) -> bool:
        """Whether a part with this key id may be one of this cipher."""
        return self._store is not None or key_id == self._key_id

    def _begin_part(self, key_id: str, salt: bytes, head: bytes) -> tuple[Secret, bytes]:
        """The secret of a part, and the commitment of its head (32 bytes), whose bytes before that are `head`.

        Raises
        ------
        LookupError
            The caller's function has no key with this id.
        TypeError, ValueError
            What it returned is no key.
        """
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        info = _PART_LABEL + head + hashlib.sha256(self._context).digest()
        # No variable has the key: tools that show a traceback with variables would show it.
        made = HKDF(SHA256(), 2 * KEY_SIZE, salt, info).derive(self._key_of(key_id)._value)
        return Secret(made[:KEY_SIZE]), made[KEY_SIZE:]

    def _aead(self, secret: Secret, index: int) -> Aead:
        """The algorithm with the key of a part for the numbers from ``index << 20`` on."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

        info = _KEY_LABEL + index.to_bytes(4, "little")
        return self._algorithm(HKDFExpand(SHA256(), KEY_SIZE, info).derive(secret._value))

    def _algorithm(self, key: bytes) -> Aead:
        raise NotImplementedError

    def _key_of(self, key_id: str) -> Secret:
        if self._key is not None:
            return self._key
        assert self._store is not None
        try:
            found = Secret(self._store(key_id))
        except LookupError:
            found = Secret(None)
        # As `get` of a dict returns it.
        if found._value is None:
            # Not the error of the store, which may say what keys there are.
            raise LookupError(f"the function that has the keys has none with the id {key_id!r}")
        return _checked_key(found, f"the key with the id {key_id!r}")


def _unpickled(cls: type[Cipher], store: Callable[[str], Buffer | None], key_id: str, context: bytes) -> Cipher:
    return cls(store, key_id=key_id, context=context)


def _checked_key(given: Secret, what: str) -> Secret:
    """A copy of the key in `given`. Neither the messages nor the variables show it: it may be a key in another form."""
    try:
        secret = Secret(bytes(memoryview(given._value)))
    except TypeError:
        kind = type(given._value).__name__
        raise TypeError(
            f"{what} must be {KEY_SIZE} bytes, or a function that returns them for a key id, got {kind}"
        ) from None
    if len(secret._value) != KEY_SIZE:
        raise ValueError(f"{what} must have {KEY_SIZE} bytes, got {len(secret._value)}")
    return secret


def _checked_key_id(key_id: Any) -> str:
    if not isinstance(key_id, str):
        raise TypeError(f"key_id must be a str, got {type(key_id).__name__}")
    # A key that was passed as its id by mistake is not shown either.
    if not key_id.isprintable() or len(key_id.encode(errors="replace")) > MAX_KEY_ID_SIZE:
        raise ValueError(f"key_id must be a printable text of at most {MAX_KEY_ID_SIZE} bytes in UTF-8")
    return str(key_id)


class Aes256Gcm(Cipher):
    """AES-256-GCM: the faster one where the processor has instructions for AES.

    See `Cipher` for the parameters.

    Examples
    --------
    >>> import secrets
    >>> from flatstream import Aes256Gcm
    >>> Aes256Gcm(secrets.token_bytes(32), key_id="2026-01")
    Aes256Gcm(key_id='2026-01')
    """

    __slots__ = ()

    name = "aes-256-gcm"
    number = 1

    def _algorithm(self, key: bytes) -> Aead:
        made: Aead = load_cryptography().AESGCM(key)
        return made


class ChaCha20Poly1305(Cipher):
    """ChaCha20-Poly1305: the faster one where the processor has no instructions for AES.

    See `Cipher` for the parameters.

    Examples
    --------
    >>> import secrets
    >>> from flatstream import ChaCha20Poly1305
    >>> keys = {"2025": secrets.token_bytes(32), "2026": secrets.token_bytes(32)}
    >>> ChaCha20Poly1305(keys.get, key_id="2026").key_id
    '2026'
    """

    __slots__ = ()

    name = "chacha20-poly1305"
    number = 2

    def _algorithm(self, key: bytes) -> Aead:
        made: Aead = load_cryptography().ChaCha20Poly1305(key)
        return made

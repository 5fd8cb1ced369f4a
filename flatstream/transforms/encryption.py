"""`EncryptedFramer` and `EncryptedDeframer`. docs/encryption.md has the construction, and what it protects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flatstream.framing import Deframer, Framer, TransformDeframer, TransformFramer
from flatstream.transforms._parts import EncryptionReport, PartReader, PartWriter, Tail, check_shape
from flatstream.transforms.ciphers import Aes256Gcm, ChaCha20Poly1305, Cipher

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EncryptedDeframer", "EncryptedFramer", "EncryptionReport"]

NAME = "encryption"
VERSION = "1"


class EncryptedFramer(TransformFramer):
    """Encrypts each payload; `inner` frames the result. A frame grows by 29 bytes, a stream by 149 and its key id.

    A writer puts a head before the first message and a final frame behind the last one. They are no messages. The
    framer itself has no state: any number of writers may use one.

    Parameters
    ----------
    inner : Framer
        Frames the encrypted bytes. A checksum there finds damage without the key, and before it is decrypted; without
        one, `flatstream.recover` cannot tell a frame that a power cut left half-written. It protects from nobody.
    cipher : Cipher
        The algorithm and the key: `Aes256Gcm` or `ChaCha20Poly1305`.

    Raises
    ------
    TypeError
        `inner` is not a Framer, or has another transform; `cipher` is not a Cipher.
    LookupError, TypeError, ValueError
        From the writer: the function that has the keys has none with the cipher's id, or returned something else.
    InvalidFrameError
        From a write: the payload has nearly 2 GiB or more.

    See Also
    --------
    flatstream.open : takes ``cipher=``, and writes a description that says how the stream is encrypted.

    Examples
    --------
    >>> import io
    >>> from flatstream import Aes256Gcm, ChecksumDeframer, ChecksumFramer, Crc32c, StreamReader, StreamWriter
    >>> cipher = Aes256Gcm(bytes(range(32)))
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, ChecksumFramer(Crc32c()).encrypted(cipher)) as writer:
    ...     writer.write_payload(b"secret")
    >>> b"secret" in sink.getvalue()
    False
    >>> with StreamReader(sink.getvalue(), ChecksumDeframer(Crc32c()).encrypted(cipher)) as reader:
    ...     [bytes(payload) for payload in reader], reader.encryption.is_complete
    ([b'secret'], True)
    """

    def __init__(self, inner: Framer, cipher: Cipher, *, _salt: bytes | None = None) -> None:
        _check_cipher(cipher)
        super().__init__(inner)
        _check_inner(self, inner, TransformFramer)
        self._cipher = cipher
        # Of tests: the salt of every part.
        self._salt = _salt
        self._part: PartWriter | None = None

    @property
    def cipher(self) -> Cipher:
        """The algorithm and the key."""
        return self._cipher

    @property
    def described(self) -> tuple[str, tuple[tuple[str, str], ...], bytes]:
        """What a description says of it: the algorithm, the id of the key, and the version of the construction."""
        parameters = (("algorithm", self._cipher.name), ("key_id", self._cipher.key_id), ("version", VERSION))
        return NAME, parameters, b""

    def with_inner(self, inner: Framer) -> EncryptedFramer:
        """The same around another framer, without the state of a stream."""
        made = super().with_inner(inner)
        assert isinstance(made, EncryptedFramer)
        made._part = None
        return made

    def start(self, after: bytes | None = None) -> EncryptedFramer:
        """The framer for one part of a stream, with a key of its own.

        Parameters
        ----------
        after : bytes, optional
            The end of the stream to which the part is appended, from `tail_of`.
        """
        _check_made(self)
        made = self.with_inner(self.inner.start())
        made._part = PartWriter(self._cipher, None if after is None else Tail.from_bytes(after), self._salt)
        return made

    def bind_description(self, payload: bytes) -> None:
        """Binds the part to the description of the stream."""
        self._started().describe(payload)

    def begin(self) -> list[bytes]:
        """The head of the part."""
        _check_made(self)
        return [*self.inner.begin(), self.inner_frame(self._started().head())]

    def finish(self) -> list[bytes]:
        """The final frame."""
        return [self.inner_frame(self._started().final()), *self.inner.finish()]

    def transform(self, payload: memoryview) -> bytes:
        """The encrypted payload."""
        part = self._part
        if part is None:
            part = self._started()
        return part.seal(payload)

    def accepted(self) -> None:
        """The last frame is in the stream: the next one has the next place."""
        part = self._part
        if part is None:
            part = self._started()
        part.accepted()

    def _started(self) -> PartWriter:
        if self._part is None:
            raise TypeError("an encrypted stream has a beginning and an end: write it with a StreamWriter")
        return self._part

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r}, {self._cipher!r})"


class EncryptedDeframer(TransformDeframer):
    """Decrypts what `inner` finds, and refuses what is not authentic in its place.

    The counterpart of `EncryptedFramer`. With ``on_error="raise"``, the messages that a reader delivers are always the
    first ones of the stream, as they were written: after a frame that was refused, the rest is too. With "skip" and
    "resync", frames behind damage are delivered, and ``reader.encryption`` says what is missing.

    Parameters
    ----------
    inner : Deframer
        Finds the frames.
    cipher : Cipher
        The algorithm and the keys.
    require_final : bool
        Whether the stream, and each part of it, must have a final frame. Otherwise a stream that ends with another is
        read, because a crash leaves such streams: see ``reader.encryption``.

    Raises
    ------
    TypeError
        `inner` is not a Deframer, or has another transform; `cipher` is not a Cipher; `require_final` is not a bool.
    DecryptionError
        From a read: the frame is refused, or with `require_final`, the stream or a part of it is cut off.
    LookupError, TypeError, ValueError
        From a read: the function that has the keys has none with the id of a part, or returned something else.
    """

    def __init__(
        self, inner: Deframer, cipher: Cipher, *, require_final: bool = False, _require_description: bool = False
    ) -> None:
        _check_cipher(cipher)
        if not isinstance(require_final, bool):
            raise TypeError(f"require_final must be a bool, got {require_final!r:.100}")
        super().__init__(inner)
        _check_inner(self, inner, TransformDeframer)
        self._cipher = cipher
        self._require_final = require_final
        # Of a chain that a description made, and that does more to messages than to decrypt them.
        self._require_description = _require_description
        self._parts: PartReader | None = None

    @property
    def cipher(self) -> Cipher:
        """The algorithm and the keys."""
        return self._cipher

    @property
    def require_final(self) -> bool:
        """Whether parts without a final frame are refused."""
        return self._require_final

    def with_inner(self, inner: Deframer) -> EncryptedDeframer:
        """The same around another deframer, without the state of a stream."""
        made = super().with_inner(inner)
        assert isinstance(made, EncryptedDeframer)
        made._parts = None
        return made

    def start(self) -> EncryptedDeframer:
        """The deframer for one stream."""
        _check_made(self)
        made = self.with_inner(self.inner.start())
        made._parts = PartReader(self._cipher, self._require_final, self._require_description)
        return made

    def bind_description(self, payload: bytes) -> None:
        """The description of the stream, to which its parts must be bound."""
        self._started().describe(payload)

    def restore(self, payload: memoryview) -> bytes | None:
        """The message; None for a head and a final frame."""
        parts = self._parts
        if parts is None:
            parts = self._started()
        return parts.open(payload)

    def probe(self, payload: memoryview) -> None:
        """Raises DecryptionError for bytes that cannot be the payload of a frame of an encrypted stream."""
        check_shape(payload)

    @property
    def state(self) -> object:
        """Where in which part the next frame is expected."""
        parts = self._parts
        return None if parts is None else parts.state

    def rewind(self, state: Any) -> None:
        """Goes back to an earlier state."""
        self._started().rewind(state)

    def tolerate(self, gaps: bool) -> None:
        """Whether frames behind a gap are delivered."""
        self._started().tolerate(gaps)

    def passed_over(self) -> None:
        """A frame was refused, or a range was searched."""
        self._started().note_refused()

    def end(self) -> None:
        """The stream is at its end."""
        self._started().end()
        self.inner.end()

    @property
    def encryption_report(self) -> EncryptionReport:
        """What was found of the stream so far."""
        return EncryptionReport() if self._parts is None else self._parts.report

    @property
    def tail(self) -> bytes | None:
        """What `EncryptedFramer.start` takes, for a part behind the last frame accepted; None if there is none."""
        tail = None if self._parts is None else self._parts.tail
        return None if tail is None else tail.to_bytes()

    def _started(self) -> PartReader:
        if self._parts is None:
            raise TypeError("an encrypted stream has a beginning and an end: read it with a StreamReader")
        return self._parts

    def __repr__(self) -> str:
        final = ", require_final=True" if self._require_final else ""
        return f"{type(self).__name__}({self.inner!r}, {self._cipher!r}{final})"


def _check_cipher(cipher: Any) -> None:
    if not isinstance(cipher, Cipher):
        # Not its repr: it may be the key itself.
        raise TypeError(f"cipher must be an Aes256Gcm or a ChaCha20Poly1305, got {type(cipher).__name__}")


def _check_made(adapter: EncryptedFramer | EncryptedDeframer) -> None:
    if adapter.inner is None:
        raise TypeError(f"{type(adapter).__name__}.__init__ was not called")


def _check_inner(outer: Any, inner: Any, kind: type) -> None:
    """Raises TypeError if a transform stands inside of the encryption."""
    while inner is not None:
        if isinstance(inner, kind):
            name = type(outer).__name__
            advice = (
                "a stream is encrypted once"
                if isinstance(inner, type(outer))
                else "compress before you encrypt, as in framer.encrypted(cipher).compressed(compressor)"
            )
            raise TypeError(
                f"{name} must be the innermost transform, and it is around a {type(inner).__name__}: {advice}"
            )
        inner = getattr(inner, "inner", None)


# Descriptions


def from_description(transform: Any, cipher: Cipher | None, inner: Deframer, **options: Any) -> EncryptedDeframer:
    """The deframer for a stream whose description has `transform`. The description is not authenticated yet.

    Raises
    ------
    TypeError
        `cipher` is None, or not a Cipher.
    ValueError
        The cipher has another algorithm, or the version of the construction is not known.
    """
    return EncryptedDeframer(inner, _described_cipher(transform, cipher), **options)


def framer_from_description(transform: Any, cipher: Cipher | None, inner: Framer) -> EncryptedFramer:
    """The framer for a stream whose description has `transform`; see `from_description`."""
    return EncryptedFramer(inner, _described_cipher(transform, cipher))


def _described_cipher(transform: Any, cipher: Cipher | None) -> Cipher:
    parameters: Mapping[str, str] = dict(transform.parameters)
    algorithm = parameters.get("algorithm", "")
    if parameters.get("version") != VERSION:
        raise ValueError(
            f"the stream is encrypted in the version {parameters.get('version')!r:.100} of the construction, and this "
            f"package reads version {VERSION}"
        )
    if cipher is None:
        names = {kind.name: kind.__name__ for kind in (Aes256Gcm, ChaCha20Poly1305)}
        key_id = parameters.get("key_id", "")
        raise TypeError(
            f"the stream is encrypted ({algorithm:.100}, key id {key_id!r:.300}): pass "
            f"cipher={names.get(algorithm, 'Aes256Gcm')}(key, key_id={key_id!r:.300})"
        )
    _check_cipher(cipher)
    if cipher.name != algorithm:
        raise ValueError(f"the stream is encrypted with {algorithm!r:.100}, and the cipher is {cipher.name!r}")
    return cipher

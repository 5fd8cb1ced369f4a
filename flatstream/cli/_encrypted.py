"""Encrypted inputs: the key of ``--key-file``, and what is missing in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from flatstream.cli._output import complain, count_text
from flatstream.cli._status import DAMAGED, INTACT
from flatstream.errors import InvalidFrameError
from flatstream.transforms.ciphers import KEY_SIZE, Aes256Gcm, ChaCha20Poly1305, Secret
from flatstream.transforms.described import CipherOfDescription, algorithm_of, encrypted_error

if TYPE_CHECKING:
    from flatstream.reader import StreamReader
    from flatstream.transforms.encryption import EncryptionReport

__all__ = ["KeyFile", "missing_texts", "tell_missing"]

# One byte more than the longest file of a key has: digits, and an end of line.
LONGEST = 2 * KEY_SIZE + 3

# How many parts without an end are named.
TOLD = 10


class KeyFile(CipherOfDescription):
    """The ciphers of encrypted inputs: algorithm and key id are those of the description, the key is that of a file.

    Nothing that it raises, and no repr of it, shows the key. Its pickle has the path.

    Parameters
    ----------
    path : str or None
        A file of 32 bytes, or of 64 hexadecimal digits and perhaps an end of line. None: there is no key.

    Raises
    ------
    OSError
        It cannot be read.
    click.UsageError
        It is no key.
    """

    def __init__(self, path: str | None) -> None:
        self.path = path
        self.has_key = path is not None
        self._key: Secret | None = None
        if path is not None:
            with open(path, "rb", buffering=0) as file:
                self._key = _key_in(_read(file), path)

    def cipher_for(self, transform: Any) -> Any:
        """The cipher of a stream whose description has `transform`."""
        if self._key is None:
            raise encrypted_error(transform, "pass --key-file FILE")
        algorithm = algorithm_of(transform)
        kind = {known.name: known for known in (Aes256Gcm, ChaCha20Poly1305)}.get(algorithm)
        if kind is None:
            raise InvalidFrameError(
                f"the stream is encrypted with {algorithm!r:.100}, which this version does not know"
            )
        try:
            return kind(self._key._value, key_id=dict(transform.parameters).get("key_id", ""))
        except ValueError as error:
            # A stranger can have written the description.
            raise InvalidFrameError(f"the description of the stream has a key id that is none: {error}") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyFile, (self.path,)


def _read(file: Any) -> Secret:
    """The first bytes of the file, which may be a pipe."""
    data = b""
    while len(data) < LONGEST and (piece := file.read(LONGEST - len(data))):
        data += piece
    return Secret(data)


def _key_in(content: Secret, path: str) -> Secret:
    data = content._value
    if len(data) == KEY_SIZE:
        return content
    digits = data.removesuffix(b"\n").removesuffix(b"\r")
    if len(digits) == 2 * KEY_SIZE:
        try:
            # Spaces between the digits are none.
            key = Secret(bytes.fromhex(digits.decode("ascii")))
        except ValueError:
            key = Secret(b"")
        if len(key._value) == KEY_SIZE:
            return key
    raise click.UsageError(
        f"{path!r:.200} is no key: expected a file of exactly {KEY_SIZE} bytes, or of {2 * KEY_SIZE} hexadecimal "
        "digits (--key-file)"
    )


def tell_missing(name: str, reader: StreamReader) -> int:
    """Says on standard error what is missing in an encrypted stream that was read, and returns the exit status."""
    found = reader.encryption
    if found is None:
        return INTACT
    if found.refused and not found.parts:
        # Of files, that was seen when they were opened.
        complain(f"{name}: nothing could be decrypted: the key may be another one (--key-file)")
        return DAMAGED
    for text in missing_texts(found):
        complain(f"{name}: {text}")
    return DAMAGED if found.is_gapped else INTACT


def missing_texts(found: EncryptionReport) -> Iterator[str]:
    """What is missing in an encrypted stream, as far as it was read, in words."""
    if found.missing_frames:
        yield f"{count_text(found.missing_frames, 'encrypted frame')} missing"
    if found.missing_ends:
        yield f"{count_text(found.missing_ends, 'part')} without the last frames, nobody knows how many"
    if found.missing_parts:
        yield f"{count_text(found.missing_parts, 'part')} missing, or without the first frame, which is needed to read"
    if found.other_descriptions:
        yield f"{count_text(found.other_descriptions, 'part')} of a stream with another description"
    if found.unfinished_count:
        parts = ", ".join(map(str, found.unfinished_parts[:TOLD])) + (" ..." if found.unfinished_count > TOLD else "")
        yield f"no end of part {parts}: the writer has crashed, or still writes, or somebody cut it off"

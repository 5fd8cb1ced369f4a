"""The parts of an encrypted stream: payloads to encrypted ones, and back.

These are the payloads that the inner framer frames (docs/encryption.md has the construction, and the reasons):

    head    [kind 1][version][algorithm][K][part: u32][key id: K][salt: 32][tag before: 16][description: 32]
            [commitment: 32]
    data    [kind 2][number: 6][place: 6][ciphertext][tag: 16]
    final   [kind 3][number: 6][count: 6][tag: 16]

Nothing here knows frames, files, or the writers and readers.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from flatstream.errors import DecryptionError, FlatStreamError, InvalidFrameError
from flatstream.transforms.ciphers import Aead, Cipher, Secret

__all__ = [
    "MAX_MESSAGE_LEN",
    "OVERHEAD",
    "EncryptionReport",
    "PartReader",
    "PartWriter",
    "Tail",
    "check_shape",
    "read_head",
]

HEAD, DATA, FINAL = 1, 2, 3
KIND_DATA, KIND_FINAL = b"\x02", b"\x03"
VERSION = 1

SALT_SIZE = 32
TAG_SIZE = 16
DIGEST_SIZE = COMMITMENT_SIZE = 32
NUMBER_SIZE = 6
NONCE_SIZE = 2 * NUMBER_SIZE
PREFIX_SIZE = 1 + NONCE_SIZE
# Of a head: before the key id, and from there on.
FIXED_SIZE = 8
BOUND_SIZE = SALT_SIZE + TAG_SIZE + DIGEST_SIZE

# How many bytes a message grows by.
OVERHEAD = PREFIX_SIZE + TAG_SIZE
# What `cryptography` takes in one call is less than 2 GiB, with the tag.
MAX_MESSAGE_LEN = 2**31 - 1 - OVERHEAD

NUMBERS = 1 << 8 * NUMBER_SIZE
PLACE_SHIFT = 8 * NUMBER_SIZE
# The numbers that one key serves, and the bytes after which the next key is taken. With AES-GCM, the advantage of an
# attacker grows with the square of the blocks: 2^32 blocks of 16 bytes leave it below 2^-64.
NUMBERS_OF_KEY_BITS = 20
KEY_MASK = (NUMBERS - 1) >> NUMBERS_OF_KEY_BITS
BYTES_OF_KEY = 64 << 30

NO_TAG = bytes(TAG_SIZE)
NO_DESCRIPTION = bytes(DIGEST_SIZE)

# A process made by fork has the numbers of its parent, and would use them a second time.
_forks = 0


def _note_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


class Tail(NamedTuple):
    """The end of an encrypted stream, to which the next part is bound."""

    tag: bytes
    # The number of the part that ends there.
    part: int

    def to_bytes(self) -> bytes:
        """20 bytes: the tag, and the number of the part."""
        return self.tag + self.part.to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> Tail:
        """The inverse of `to_bytes`."""
        if len(data) != TAG_SIZE + 4:
            raise ValueError(f"the end of an encrypted stream has {TAG_SIZE + 4} bytes, got {len(data)}")
        return cls(bytes(data[:TAG_SIZE]), int.from_bytes(data[TAG_SIZE:], "little"))


class Head(NamedTuple):
    """The fields of a head. Nothing in it is authenticated, unless its commitment was compared."""

    version: int
    algorithm: int
    part: int
    key_id: str
    salt: bytes
    tag_before: bytes
    description: bytes
    commitment: bytes
    # All bytes before the commitment.
    bound: bytes


def head_bytes(cipher: Cipher, part: int, salt: bytes, tag_before: bytes, description: bytes) -> bytes:
    """A head, without its commitment."""
    key_id = cipher.key_id.encode()
    fixed = bytes((HEAD, VERSION, cipher.number, len(key_id))) + part.to_bytes(4, "little")
    return fixed + key_id + salt + tag_before + description


def read_head(payload: memoryview) -> Head | None:
    """The fields of a head; None if it is none."""
    data = bytes(payload[: FIXED_SIZE + 255 + BOUND_SIZE + COMMITMENT_SIZE + 1])
    if len(data) < FIXED_SIZE or data[0] != HEAD:
        return None
    at = FIXED_SIZE + data[3]
    if len(data) != at + BOUND_SIZE + COMMITMENT_SIZE:
        return None
    try:
        key_id = data[FIXED_SIZE:at].decode()
    except UnicodeDecodeError:
        return None
    if not key_id.isprintable():
        return None
    salt, rest = data[at : at + SALT_SIZE], data[at + SALT_SIZE :]
    tag, description, commitment = rest[:TAG_SIZE], rest[TAG_SIZE:-COMMITMENT_SIZE], rest[-COMMITMENT_SIZE:]
    part = int.from_bytes(data[4:8], "little")
    return Head(data[1], data[2], part, key_id, salt, tag, description, commitment, data[:-COMMITMENT_SIZE])


def refuse() -> NoReturn:
    """Raises the one error for every frame that is not authentic in its place."""
    raise _refusal(
        "the encrypted stream does not accept this frame: it was changed, moved, repeated, or frames before it are "
        "missing; or the key, its id, the algorithm or the context is another",
        "not authentic in this place",
    )


def _refusal(message: str, reason: str) -> DecryptionError:
    return DecryptionError(message, validator="encryption", reason=reason)


def _no_final(part: int) -> DecryptionError:
    """The error for a part without a final frame, if one is required. That there is none is for everybody to see."""
    what = "the encrypted stream" if part < 0 else f"part {part} of the encrypted stream"
    return _refusal(
        f"{what} has no final frame, which is required: its writer has crashed or still writes, or the end was cut off",
        "no final frame",
    )


def check_shape(payload: memoryview) -> None:
    """Raises DecryptionError for bytes that cannot be the payload of a frame of an encrypted stream."""
    size = len(payload)
    kind = payload[0] if size else 0
    if kind == HEAD:
        is_possible = read_head(payload) is not None
    else:
        is_possible = size >= OVERHEAD if kind == DATA else kind == FINAL and size == OVERHEAD
    if not is_possible:
        refuse()


class PartWriter:
    """Encrypts the messages of one part. It is the state of one writer, and is neither copied nor pickled.

    Parameters
    ----------
    cipher : Cipher
        Gives the key.
    after : Tail, optional
        The end of the stream so far; None at its beginning.
    salt : bytes, optional
        Only for tests: what is random otherwise.
    """

    def __init__(self, cipher: Cipher, after: Tail | None, salt: bytes | None = None) -> None:
        self._cipher = cipher
        self._number_of_part = 0 if after is None else after.part + 1
        if self._number_of_part >= 1 << 32:
            raise OverflowError("an encrypted stream has at most 2**32 parts: begin another stream")
        self._tag_before = NO_TAG if after is None else after.tag
        self._salt = secrets.token_bytes(SALT_SIZE) if salt is None else salt
        self._description = NO_DESCRIPTION
        self._fork = _forks
        self._secret: Secret | None = None
        self._encrypt: Callable[[bytes, memoryview, bytes], bytes]
        # The next number, the first one that the present key does not serve, and how many bytes that key has encrypted.
        self._number = 0
        self._end_of_key = 0
        self._bytes_of_key = 0
        # How many frames were accepted, and whether one was encrypted since. Replaced in one step: a signal handler may
        # raise at any moment, and `accepted` is called again then.
        self._place = (0, False)
        self._final: bytes | None = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("the state of an encrypted stream is not copied or pickled: its numbers would be used twice")

    def describe(self, payload: memoryview | bytes) -> None:
        """Binds the part to the description of the stream. Before `head`."""
        self._description = hashlib.sha256(payload).digest()

    def head(self) -> bytes:
        """The payload of the first frame. A second call gives the same bytes again."""
        head = head_bytes(self._cipher, self._number_of_part, self._salt, self._tag_before, self._description)
        self._secret, commitment = self._cipher._begin_part(self._cipher.key_id, self._salt, head)
        return head + commitment

    def seal(self, message: memoryview) -> bytes:
        """The payload of a data frame. Its number is not used again, whatever becomes of the frame."""
        if self._final is not None:
            raise ValueError("this part of the encrypted stream has its final frame: open the stream again to append")
        size = len(message)
        if size > MAX_MESSAGE_LEN:
            raise InvalidFrameError(
                f"a message of {size} bytes is too long to be encrypted: the limit is {MAX_MESSAGE_LEN}",
                declared_len=size,
                buffer_len=size,
                limit=MAX_MESSAGE_LEN,
            )
        place, _ = self._place
        nonce = self._next_nonce(place)
        self._place = (place, True)
        self._bytes_of_key += size
        prefix = KIND_DATA + nonce
        return prefix + self._encrypt(nonce, message, prefix)

    def accepted(self) -> None:
        """The frame of the last `seal` is in the stream. A second call for the same frame does nothing."""
        place, is_new = self._place
        if is_new:
            self._place = (place + 1, False)

    def final(self) -> bytes:
        """The payload of the final frame. A second call gives the same bytes again."""
        if self._final is None:
            nonce = self._next_nonce(self._place[0])
            prefix = KIND_FINAL + nonce
            self._final = prefix + self._encrypt(nonce, memoryview(b""), prefix)
        return self._final

    def _next_nonce(self, place: int) -> bytes:
        """The nonce of the next frame. Its number is spent, whatever fails from here on, also by a signal."""
        if self._number >= self._end_of_key or self._bytes_of_key >= BYTES_OF_KEY:
            self._take_next_key()
        if self._fork != _forks:
            raise FlatStreamError(
                "this process was made by fork, and the encrypted stream is its parent's: open a stream of its own"
            )
        number = self._number
        self._number = number + 1
        return (number | place << PLACE_SHIFT).to_bytes(NONCE_SIZE, "little")

    def _take_next_key(self) -> None:
        if self._secret is None:
            raise ValueError("the part has no head yet")
        index = -(-self._number >> NUMBERS_OF_KEY_BITS)
        first = index << NUMBERS_OF_KEY_BITS
        if first >= NUMBERS:
            raise OverflowError("this part of the encrypted stream has no numbers left: open it again to append")
        self._encrypt = self._cipher._aead(self._secret, index).encrypt
        self._number = first
        self._end_of_key = first + (1 << NUMBERS_OF_KEY_BITS)
        self._bytes_of_key = 0


@dataclass(frozen=True)
class EncryptionReport:
    """What a reader of an encrypted stream has found.

    Attributes
    ----------
    parts : int
        How many parts were begun: one for each time that the stream was opened for writing.
    is_finished : bool
        Whether the last frame was a final one: then the writer closed the stream, and nothing is missing at its end,
        unless whole parts are.
    unfinished_parts : tuple of int
        The numbers of the parts that ended without a final frame, because the writer crashed, or somebody cut it off.
        The part that is being read counts only when the end of the stream was seen. At most the first 1,000.
    unfinished_count : int
        How many there are.
    missing_frames : int
        How many frames are known to be missing within parts. Only with `on_error` "skip" or "resync", as the rest.
    missing_parts : int
        How many parts are missing as a whole, or without the head that is needed to read them.
    missing_ends : int
        How many parts miss frames at their end, nobody knows how many.
    other_descriptions : int
        How many parts are bound to another description than the one that the stream has.
    refused : int
        How many frames were refused, or passed over as damaged. A range that was searched counts as one.
    """

    parts: int = 0
    is_finished: bool = False
    unfinished_parts: tuple[int, ...] = ()
    unfinished_count: int = 0
    missing_frames: int = 0
    missing_parts: int = 0
    missing_ends: int = 0
    other_descriptions: int = 0
    refused: int = 0

    @property
    def is_gapped(self) -> bool:
        """Whether frames or parts are missing between those that are there, or a part is of another description."""
        return bool(self.missing_frames or self.missing_parts or self.missing_ends or self.other_descriptions)

    @property
    def is_complete(self) -> bool:
        """Whether nothing was refused, and every part is there, with all of its frames and its final one."""
        return self.is_finished and not (
            self.unfinished_count
            or self.missing_frames
            or self.missing_parts
            or self.missing_ends
            or self.other_descriptions
            or self.refused
        )


class _Part(NamedTuple):
    """What a reader knows that frames of messages do not change. A rewind puts back an earlier one."""

    # None before the first part.
    secret: Secret | None = None
    number: int = -1
    has_final: bool = False
    parts: int = 0
    unfinished: int = 0
    missing_frames: int = 0
    missing_parts: int = 0
    missing_ends: int = 0
    other_descriptions: int = 0


# Of a reader between two frames.
_State = tuple[_Part, int, bytes, int]


class PartReader:
    """Decrypts the parts of one stream: the state of one reader.

    Parameters
    ----------
    cipher : Cipher
        Gives the keys.
    require_final : bool
        Whether a part without a final frame is refused.
    require_description : bool
        Whether a part that is bound to another description is refused behind gaps too.
    """

    MAX_NUMBERS_KEPT = 1000

    def __init__(self, cipher: Cipher, require_final: bool, require_description: bool = False) -> None:
        from cryptography.exceptions import InvalidTag

        self._invalid = InvalidTag
        self._cipher = cipher
        self._require_final = require_final
        self._require_description = require_description
        self._gaps = False
        self._description = NO_DESCRIPTION
        # Between two frames: the part, the place of the next frame in it, the tag of the last one, and how many were
        # refused. Replaced in one step, so that an exception of a signal handler leaves the one or the other.
        self.state: _State = (_Part(), 0, NO_TAG, 0)
        self._at_end = False
        # The numbers of unfinished parts; `_part.unfinished` says how many of them count.
        self._unfinished: list[int] = []
        # The key in use, and which it is.
        self._secret: Secret | None = None
        self._index = -1
        self._aead: Aead

    def describe(self, payload: memoryview | bytes) -> None:
        """The description of the stream, which was read before its first part."""
        self._description = hashlib.sha256(payload).digest()

    def tolerate(self, gaps: bool) -> None:
        """Whether frames behind a gap are accepted from now on."""
        self._gaps = gaps

    def rewind(self, state: _State) -> None:
        """Goes back to an earlier state: the next frame is the one that came next then."""
        self.state = state
        self._at_end = False
        del self._unfinished[state[0].unfinished :]

    @property
    def tail(self) -> Tail | None:
        """The end of what was accepted; None at the beginning."""
        part, _, tag, _ = self.state
        return Tail(tag, part.number) if part.parts else None

    @property
    def report(self) -> EncryptionReport:
        """What was found so far."""
        part = self.state[0]
        unfinished, count = tuple(self._unfinished), part.unfinished
        if self._at_end and part.parts and not part.has_final:
            count += 1
            if len(unfinished) < self.MAX_NUMBERS_KEPT:
                unfinished += (part.number,)
        return EncryptionReport(
            part.parts,
            part.has_final,
            unfinished,
            count,
            part.missing_frames,
            part.missing_parts,
            part.missing_ends,
            part.other_descriptions,
            self.state[3],
        )

    def note_refused(self) -> None:
        """A frame was refused, here or before it came here, or a range was searched."""
        part, expected, tag, refused = self.state
        self.state = (part, expected, tag, refused + 1)

    def open(self, payload: memoryview) -> bytes | None:
        """The message of a data frame, or None for a head and a final frame.

        Raises
        ------
        DecryptionError
            The frame is refused. The state is as before.
        LookupError, TypeError, ValueError
            See `Cipher`.
        """
        size = len(payload)
        part, expected, _, refused = self.state
        if size >= OVERHEAD and part.secret is not None:
            # A copy: other programs may write to memory that is shared.
            prefix = bytes(payload[:PREFIX_SIZE])
            kind = prefix[0]
            if kind == DATA or (kind == FINAL and size == OVERHEAD):
                nonce = prefix[1:]
                numbers = int.from_bytes(nonce, "little")
                index = numbers >> NUMBERS_OF_KEY_BITS & KEY_MASK
                is_same = index == self._index and part.secret is self._secret
                aead = self._aead if is_same else self._cipher._aead(part.secret, index)
                # Not refused here, so that the error has no context. (OverflowError: of a payload of 2 GiB.)
                try:
                    message = aead.decrypt(nonce, payload[PREFIX_SIZE:], prefix)
                except (self._invalid, OverflowError):
                    message = None
                place = numbers >> PLACE_SHIFT
                is_next = place >= expected if self._gaps else place == expected
                if message is None or not is_next or part.has_final:
                    # The traceback has the variables, and a message in the wrong place is nobody's to see.
                    message = None
                    refuse()
                if not is_same:
                    self._secret, self._index, self._aead = part.secret, index, aead
                tag = bytes(payload[-TAG_SIZE:])
                if place != expected:
                    part = part._replace(missing_frames=part.missing_frames + place - expected)
                if kind == FINAL:
                    self.state = (part._replace(has_final=True), place, tag, refused)
                    return None
                self.state = (part, place + 1, tag, refused)
                return message
        head = read_head(payload)
        if head is None:
            refuse()
        self._begin_part(head)
        return None

    def end(self) -> None:
        """The stream is at its end. Raises DecryptionError if a final frame is required, and there is none."""
        self._at_end = True
        if self._require_final and not self.state[0].has_final:
            raise _no_final(self.state[0].number)

    def _begin_part(self, head: Head) -> None:
        part, _, tag, refused = self.state
        if not self._cipher._opens(head.key_id):
            # Both ids are known to everybody, and nothing was computed with a key.
            raise _refusal(
                f"this part of the encrypted stream says the key id {head.key_id!r}, and the cipher has the key "
                f"{self._cipher.key_id!r}",
                "another key id",
            )
        secret, commitment = self._cipher._begin_part(head.key_id, head.salt, head.bound)
        is_authentic = (
            hmac.compare_digest(commitment, head.commitment)
            and head.version == VERSION
            and head.algorithm == self._cipher.number
        )
        missing_parts = head.part - part.number - 1
        is_described = head.description == self._description
        follows = missing_parts == 0 and head.tag_before == tag and is_described
        is_next = follows
        if self._gaps:
            is_next = missing_parts >= 0 and (is_described or not self._require_description)
        is_unfinished = part.parts > 0 and not part.has_final
        if not is_authentic or not is_next:
            refuse()
        if is_unfinished and self._require_final:
            raise _no_final(part.number)
        begun = _Part(
            secret,
            head.part,
            False,
            part.parts + 1,
            part.unfinished + is_unfinished,
            part.missing_frames,
            part.missing_parts + missing_parts,
            part.missing_ends + (not missing_parts and head.tag_before != tag),
            part.other_descriptions + (not is_described),
        )
        if is_unfinished and part.unfinished < self.MAX_NUMBERS_KEPT:
            del self._unfinished[part.unfinished :]
            self._unfinished.append(part.number)
        self.state = (begun, 0, head.commitment[-TAG_SIZE:], refused)

"""Encrypted streams in plain Python: slow, readable, and the judge of what the package writes and accepts.

The construction is that of docs/encryption.md. HKDF is written out after RFC 5869; the two algorithms themselves come
from `cryptography`. Nothing here is taken from the package. A stream is a list of payloads, which an inner framer
frames.

    python -m reference.encryption > data/encryption/vectors.json      (in the folder tests)

writes the test vectors anew. They never change: streams of that form are on other people's disks.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

ALGORITHMS: dict[int, Any] = {1: AESGCM, 2: ChaCha20Poly1305}


# RFC 5869


def hkdf_expand(prk: bytes, info: bytes, size: int) -> bytes:
    made, block, counter = b"", b"", 1
    while len(made) < size:
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        made += block
        counter += 1
    return made[:size]


def hkdf(key: bytes, salt: bytes, info: bytes, size: int) -> bytes:
    return hkdf_expand(hmac.digest(salt, key, "sha256"), info, size)


# Writing


@dataclass(frozen=True)
class Keys:
    """What writer and reader agree on."""

    key: bytes
    algorithm: int = 1
    key_id: bytes = b""
    context: bytes = b""


def derive(keys: Keys, salt: bytes, head: bytes) -> tuple[bytes, bytes]:
    info = b"flatstream encryption 1 part" + head + hashlib.sha256(keys.context).digest()
    made = hkdf(keys.key, salt, info, 64)
    return made[:32], made[32:]


def aead_of(keys: Keys, secret: bytes, number: int) -> Any:
    info = b"flatstream encryption 1 key" + (number >> 20).to_bytes(4, "little")
    return ALGORITHMS[keys.algorithm](hkdf_expand(secret, info, 32))


def digest_of(description: bytes | None) -> bytes:
    return bytes(32) if description is None else hashlib.sha256(description).digest()


def make_head(
    keys: Keys, salt: bytes, part: int, tag_before: bytes, description: bytes | None, version: int = 1
) -> tuple[bytes, bytes]:
    """The payload of a head, and the secret of its part."""
    head = bytes([1, version, keys.algorithm, len(keys.key_id)]) + part.to_bytes(4, "little")
    head += keys.key_id + salt + tag_before + digest_of(description)
    secret, commitment = derive(keys, salt, head)
    return head + commitment, secret


def make_frame(keys: Keys, secret: bytes, kind: int, number: int, place: int, message: bytes = b"") -> bytes:
    """The payload of a data frame (kind 2) or a final one (kind 3)."""
    nonce = number.to_bytes(6, "little") + place.to_bytes(6, "little")
    prefix = bytes([kind]) + nonce
    sealed: bytes = aead_of(keys, secret, number).encrypt(nonce, message, prefix)
    return prefix + sealed


def make_part(
    keys: Keys,
    messages: Iterable[bytes],
    *,
    salt: bytes,
    part: int = 0,
    tag_before: bytes = bytes(16),
    description: bytes | None = None,
    numbers: Sequence[int] | None = None,
    final: bool = True,
) -> list[bytes]:
    """The payloads of a part. `numbers` are those of the messages and of the final frame: 0, 1, 2 ... by default."""
    head, secret = make_head(keys, salt, part, tag_before, description)
    payloads = [head]
    messages = list(messages)
    numbers = range(len(messages) + 1) if numbers is None else numbers
    for place, message in enumerate(messages):
        payloads.append(make_frame(keys, secret, 2, numbers[place], place, message))
    if final:
        payloads.append(make_frame(keys, secret, 3, numbers[len(messages)], len(messages)))
    return payloads


# Reading


@dataclass(frozen=True)
class Reader:
    """The state of a reader between two frames. `read` gives the message and the state behind it, or refuses."""

    keys: Keys
    gaps: bool = False
    description: bytes | None = None
    secret: bytes | None = None
    part: int = -1
    place: int = 0
    tag: bytes = field(default=bytes(16))
    has_final: bool = False
    unfinished: tuple[int, ...] = ()
    missing_frames: int = 0
    missing_parts: int = 0
    missing_ends: int = 0
    other_descriptions: int = 0

    def read(self, payload: bytes) -> tuple[bytes | None, Reader] | None:
        """None: the frame is refused. A message of None: the frame has none."""
        if payload[:1] == b"\x01":
            behind = self._read_head(payload)
            return None if behind is None else (None, behind)
        if payload[:1] not in (b"\x02", b"\x03") or len(payload) < 29 or self.secret is None or self.has_final:
            return None
        number, place = int.from_bytes(payload[1:7], "little"), int.from_bytes(payload[7:13], "little")
        try:
            message = aead_of(self.keys, self.secret, number).decrypt(payload[1:13], payload[13:], payload[:13])
        except InvalidTag:
            return None
        if place < self.place or (place > self.place and not self.gaps):
            return None
        missing = self.missing_frames + place - self.place
        behind = replace(self, missing_frames=missing, tag=payload[-16:], place=place)
        if payload[0] == 3:
            return (None, replace(behind, has_final=True)) if len(payload) == 29 else None
        return message, replace(behind, place=place + 1)

    def _read_head(self, payload: bytes) -> Reader | None:
        if len(payload) < 8 or len(payload) != 120 + payload[3]:
            return None
        size = payload[3]
        version, algorithm, part = payload[1], payload[2], int.from_bytes(payload[4:8], "little")
        key_id, salt = payload[8 : 8 + size], payload[8 + size : 40 + size]
        tag_before, description = payload[40 + size : 56 + size], payload[56 + size : 88 + size]
        if version != 1 or algorithm != self.keys.algorithm or key_id != self.keys.key_id:
            return None
        secret, commitment = derive(self.keys, salt, payload[:-32])
        is_same = description == digest_of(self.description)
        if commitment != payload[-32:]:
            return None
        if not self.gaps and (part != self.part + 1 or tag_before != self.tag or not is_same):
            return None
        if part <= self.part:
            return None
        behind = replace(self, secret=secret, part=part, place=0, tag=payload[-16:], has_final=False)
        if self.part >= 0 and not self.has_final:
            behind = replace(behind, unfinished=(*self.unfinished, self.part))
        if part > self.part + 1:
            behind = replace(behind, missing_parts=self.missing_parts + part - self.part - 1)
        elif tag_before != self.tag:
            behind = replace(behind, missing_ends=self.missing_ends + 1)
        return behind if is_same else replace(behind, other_descriptions=self.other_descriptions + 1)


def read_all(reader: Reader, payloads: Iterable[bytes]) -> tuple[list[bytes | str], Reader]:
    """The messages, with "refused" in the place of each frame that is; and the state at the end."""
    found: list[bytes | str] = []
    for payload in payloads:
        outcome = reader.read(payload)
        if outcome is None:
            found.append("refused")
        else:
            message, reader = outcome
            if message is not None:
                found.append(message)
    return found, reader


# Vectors


def framed(payloads: Iterable[bytes]) -> bytes:
    """The bytes of a stream without a checksum."""
    return b"".join(len(payload).to_bytes(4, "little") + payload for payload in payloads)


def vectors() -> list[dict[str, Any]]:
    """Streams of every form: both algorithms, a key id, a context, a description, lost numbers, a second key, parts."""
    key, salt = bytes(range(32)), bytes(range(100, 132))
    second = bytes(range(200, 232))
    made = []

    def add(name: str, keys: Keys, parts: list[list[bytes]], messages: list[bytes], **more: Any) -> None:
        payloads = [payload for part in parts for payload in part]
        made.append(
            {
                "name": name,
                "key": keys.key.hex(),
                "algorithm": {1: "aes-256-gcm", 2: "chacha20-poly1305"}[keys.algorithm],
                "key_id": keys.key_id.decode(),
                "context": keys.context.hex(),
                "salts": [salt.hex(), second.hex()][: len(parts)],
                "messages": [message.hex() for message in messages],
                "payloads": [payload.hex() for payload in payloads],
                "stream": framed(payloads).hex(),
                **more,
            }
        )

    messages = [b"first", b"", b"third \x00\xff" * 5]
    for algorithm in (1, 2):
        keys = Keys(key, algorithm)
        add(f"whole {algorithm}", keys, [make_part(keys, messages, salt=salt)], messages)
        add(f"no message {algorithm}", keys, [make_part(keys, [], salt=salt)], [])
    keys = Keys(key, 1, "schlüssel 2026".encode(), b"host a")
    add("key id and context", keys, [make_part(keys, messages, salt=salt)], messages)
    keys = Keys(key)
    add(
        "lost numbers",
        keys,
        [make_part(keys, messages, salt=salt, numbers=[1, 2, 7, 9])],
        messages,
        numbers=[1, 2, 7, 9],
    )
    numbers = [0, (1 << 20) - 1, 1 << 20, (1 << 48) - 1]
    add("several keys", keys, [make_part(keys, messages, salt=salt, numbers=numbers)], messages, numbers=numbers)
    description = b"a description"
    one = make_part(keys, messages, salt=salt, description=description)
    two = make_part(keys, [b"more"], salt=second, part=1, tag_before=one[-1][-16:], description=description)
    add("two parts", keys, [one, two], [*messages, b"more"], description=description.hex())
    one = make_part(keys, messages, salt=salt, final=False)
    two = make_part(keys, [b"more"], salt=second, part=1, tag_before=one[-1][-16:])
    add("after a crash", keys, [one, two], [*messages, b"more"], unfinished=[0])
    one = make_part(keys, [], salt=salt, final=False)
    two = make_part(keys, [], salt=second, part=1, tag_before=one[-1][-16:], final=False)
    add("heads alone", keys, [one, two], [], unfinished=[0, 1])
    return made


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))

"""The messages by which a journal goes over a broker.

A message has whole frames of one journal, as they stand in its segments, with their checksums, one after another::

    Nats-Msg-Id:         <journal>:<first>:<next>       the broker leaves out what it has with this id
    Flatstream-Version:  1
    Flatstream-Kind:     frames
    Flatstream-Journal:  <32 hexadecimal digits>        the identity of the journal
    Flatstream-Checksum: xxhash64
    Flatstream-First:    <number of the first frame>
    Flatstream-Count:    <how many frames>
    Flatstream-After:    <number behind the frame before it>
    Flatstream-Acked:    <number below which the broker has all>

    [u32 length][checksum][payload] [u32 length][checksum][payload] ...

The numbers of the frames of a message are consecutive. If First is above After, the journal has no frames between: they
were lost or dropped there. The id has both ends of the message, because a forwarder that begins again may cut the same
frames into other messages, and the broker must not take one for the other.

Acked is what lets a receiver tell a message that comes later from one that never comes. When a publication fails and
the ones behind it do not, the broker stores it behind these when it is repeated. So a receiver keeps a message that
comes too early. But what is below Acked was stored before the message was published: if it is not in the stream before
this message, the stream has lost it.

A message of the kind "description" has the payload of a description (docs/description.md) of the frames from First on,
and one of the kind "mark" has none: it says Acked, when no frames follow for now. Their Count is 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from flatstream._core.stream.decoder import Decoder
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream.checksums import Checksum
from flatstream.description import Description
from flatstream.errors import FlatStreamError
from flatstream.framing import deframer_for
from flatstream.journal._layout import IDENTITY
from flatstream.journal._parts import UNKNOWN
from flatstream.journal.cursor import LIMIT

__all__ = [
    "HEADERS_SIZE",
    "ForeignMessageError",
    "Message",
    "batches_of",
    "description_of",
    "headers_of",
    "parse_message",
]

VERSION = "1"
# Room for the headers of a message, in bytes: with the longest numbers, names, and the name of the stream.
HEADERS_SIZE = 1024

NUMBER = re.compile("[0-9]{1,19}")
CHECKSUM = re.compile(r"[A-Za-z0-9_.-]{1,40}")

Kind = Literal["frames", "description", "mark"]
KINDS: tuple[Kind, ...] = ("frames", "description", "mark")
# At the end of their ids.
ENDINGS: dict[Kind, str] = {"frames": "", "description": ":d", "mark": ":m"}


class ForeignMessageError(ValueError):
    """A message that no forwarder has published, or one that was changed."""


class Message(NamedTuple):
    """A message, as `parse_message` makes it. `next` is the number behind its last frame."""

    kind: Kind
    journal: str
    checksum: str
    first: int
    next: int
    after: int
    acked: int
    data: bytes


def headers_of(message: Message) -> dict[str, str]:
    """The headers with which a message is published."""
    return {
        "Nats-Msg-Id": f"{message.journal}:{message.first}:{message.next}{ENDINGS[message.kind]}",
        "Flatstream-Version": VERSION,
        "Flatstream-Kind": message.kind,
        "Flatstream-Journal": message.journal,
        "Flatstream-Checksum": message.checksum,
        "Flatstream-First": str(message.first),
        "Flatstream-Count": str(message.next - message.first),
        "Flatstream-After": str(message.after),
        "Flatstream-Acked": str(message.acked),
    }


def parse_message(headers: Mapping[str, str] | None, data: bytes) -> Message:
    """The message with these headers. Its frames are not looked at.

    Raises
    ------
    ForeignMessageError
        A header is missing, or says what cannot be.
    """
    found = {} if headers is None else headers
    version = found.get("Flatstream-Version")
    if version != VERSION:
        raise ForeignMessageError(
            f"expected a message with the header Flatstream-Version: {VERSION}, got {version!r:.40}"
        )
    named = found.get("Flatstream-Kind")
    kind = next((one for one in KINDS if one == named), None)
    if kind is None:
        raise ForeignMessageError(f"Flatstream-Kind must be one of {', '.join(KINDS)}; got {named!r:.40}")
    journal = found.get("Flatstream-Journal") or ""
    if not IDENTITY.fullmatch(journal) or journal == UNKNOWN:
        raise ForeignMessageError(
            f"Flatstream-Journal must be 32 hexadecimal digits, not all zeros, got {journal!r:.100}"
        )
    checksum = found.get("Flatstream-Checksum") or ""
    if not CHECKSUM.fullmatch(checksum):
        raise ForeignMessageError(f"Flatstream-Checksum must be the name of a checksum, got {checksum!r:.100}")
    first, count, after, acked = (_number(found, name) for name in ("First", "Count", "After", "Acked"))
    # The least frame has a length and a payload of one byte.
    if count > len(data) // 5 or first + count >= LIMIT or (kind == "frames") != (count > 0):
        raise ForeignMessageError(f"Flatstream-Count is {count}, in a message of {len(data)} bytes of the kind {kind}")
    if after > first:
        raise ForeignMessageError(f"Flatstream-After is {after}, and Flatstream-First {first}")
    return Message(kind, journal, checksum, first, first + count, after, acked, data)


def _number(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(f"Flatstream-{name}") or ""
    if not NUMBER.fullmatch(text) or int(text) >= LIMIT:
        raise ForeignMessageError(f"Flatstream-{name} must be a number below 2**63, got {text!r:.40}")
    return int(text)


def batches_of(message: Message, checksum: Checksum, skip: int = 0) -> list[FrameBatch]:
    """The frames of a message but the first `skip`, as views of it.

    Raises
    ------
    ForeignMessageError
        They are not what the headers say, or damaged.
    """
    count = message.next - message.first
    data = memoryview(message.data)
    try:
        found = list(_read(data, checksum))
        if sum(map(len, found)) != count:
            raise ForeignMessageError(f"expected {count} frames, got {sum(map(len, found))}")
        if skip:
            data = data[_end_of(found, skip) :]
            found = list(_read(data, checksum))
    except FlatStreamError as error:
        raise ForeignMessageError(f"its frames are damaged: {error}") from None
    return found


def _read(data: memoryview, checksum: Checksum) -> Iterator[FrameBatch]:
    # Not a StreamReader, which would take a message that looks like a description for one.
    decoder = Decoder(deframer_for(checksum), 1, buffer=data, allow_empty=False)
    return iter(decoder.read_batch, None)


def _end_of(batches: list[FrameBatch], count: int) -> int:
    """Where the first `count` frames end."""
    for batch in batches:
        if count < len(batch):
            header = batch.offsets[0]
            return batch.stream_offset + int(batch.offsets[count] - header)
        count -= len(batch)
        if not count:
            return batch.stream_offset + len(batch.buffer)
    raise AssertionError("more frames than there are")


def description_of(message: Message) -> Description:
    """The description in a message.

    Raises
    ------
    ForeignMessageError
        It is none.
    """
    try:
        return Description.from_bytes(message.data)
    except (FlatStreamError, ValueError) as error:
        raise ForeignMessageError(f"its description is damaged: {error}") from None

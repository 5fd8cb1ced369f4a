"""Copies of finished messages, for writers that hand them to a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flatstream._core.stream.encoder import Encoder
from flatstream.errors import FlatStreamError
from flatstream.framing import as_framer
from flatstream.serialization import Packable, StreamSerialize, serialize

__all__ = ["MessageCopier"]

# The frames of an encoder without a checksum are a length of four bytes and the payload.
LENGTH_SIZE = 4

# A builder that has grown beyond this for a large message is not kept for the next one.
MAX_KEPT_CAPACITY = 1 << 20


class MessageCopier:
    """Makes payloads of builders and of objects, as `bytes`, by the rules of a StreamWriter.

    Threads may share it, and building a message may use it again: each call has an encoder and a builder of its own,
    and leaves them to the calls after it.

    Parameters
    ----------
    make_builder : callable
        Makes the builders of `of_item`.
    """

    def __init__(self, make_builder: Callable[[], Any]) -> None:
        self._make_builder = make_builder
        self._builders: list[Any] = []
        self._encoders: list[tuple[Encoder, list[memoryview]]] = []

    def of_builder(self, builder: Any) -> bytes:
        """A copy of the message that `builder` has finished.

        Raises
        ------
        TypeError, FlatbufferError
            As from `StreamWriter.write_finished`.
        """
        try:
            pair = self._encoders.pop()
        except IndexError:
            pair = _capturing_encoder()
        encoder, pieces = pair
        try:
            encoder.write_finished(builder)
        except FlatStreamError as error:
            # The place in the stream of this encoder says nothing.
            error.frame = error.offset = None
            raise
        frame = b"".join(pieces)
        pieces.clear()
        self._encoders.append(pair)
        return frame[LENGTH_SIZE:]

    def of_item(self, item: str | StreamSerialize | Packable) -> bytes:
        """The message of `item`.

        Raises
        ------
        TypeError, FlatbufferError
            As from `StreamWriter.write`; and whatever the item raises.
        """
        try:
            builder = self._builders.pop()
        except IndexError:
            builder = self._make_builder()
        builder.Clear()
        serialize(item, builder)
        payload = self.of_builder(builder)
        if len(builder.Bytes) <= MAX_KEPT_CAPACITY:
            self._builders.append(builder)
        return payload


def _capturing_encoder() -> tuple[Encoder, list[memoryview]]:
    """An encoder that hands over each frame at once, and the list that gets its pieces, which never change."""
    pieces: list[memoryview] = []
    return Encoder(as_framer(None), 0, pieces.append), pieces

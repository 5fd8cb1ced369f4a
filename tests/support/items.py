"""Items for simple mode, and builders that have finished a message."""

from __future__ import annotations

from typing import Any

import flatbuffers


def finished_builder(text: str, size: int = 64) -> flatbuffers.Builder:
    """A builder of the `flatbuffers` package that has finished a message whose root is a string."""
    builder = flatbuffers.Builder(size)
    builder.Finish(builder.CreateString(text))
    return builder


class FinishedBytes:
    """What a writer takes from a builder that has finished `payload`; `before` lies in front of it in the buffer."""

    finished = True

    def __init__(self, payload: Any, before: bytes = b"") -> None:
        self.Bytes = before + payload if before else payload
        self.length = len(payload)

    def Head(self) -> int:  # noqa: N802 - the name is flatbuffers'
        return len(self.Bytes) - self.length

    def Clear(self) -> None:  # noqa: N802
        self.Bytes = b""
        self.length = 0


class StringItem:
    """A message whose root is a string."""

    def __init__(self, text: str = "item") -> None:
        self.text = text

    def serialize(self, builder: Any) -> None:
        builder.Finish(builder.CreateString(self.text))


class BytesItem:
    """A message whose root is a vector of bytes."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self, builder: Any) -> None:
        builder.Finish(builder.CreateByteVector(self.content))


class UnfinishedItem:
    """Builds something and does not finish it."""

    def serialize(self, builder: Any) -> None:
        builder.CreateString("forgotten")

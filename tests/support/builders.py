"""The builder of the `flatbuffers` package and ours, side by side."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import flatbuffers
import pytest

from flatstream import Builder
from support.messages import outcome

KINDS = ("Bool", "Byte", "Uint8", "Uint16", "Uint32", "Uint64", "Int8", "Int16", "Int32", "Int64", "Float32", "Float64")


INTEGER_KINDS = KINDS[1:10]


# Raised by the conversion of a value, for which the package has moved its head already when it finds that it cannot
# have it. What is in the buffer then is nobody's message.
HALFWAY = (struct.error, OverflowError, TypeError, ValueError)


def plain_state(builder: Any) -> dict[str, Any]:
    """What a builder says of itself, but for the buffer."""
    names = ("nested", "finished", "forceDefaults", "current_vtable", "sharedStrings")
    state = {name: getattr(builder, name) for name in names}
    state["vectorNumElems"] = getattr(builder, "vectorNumElems", "not there")
    return state


def buffer_state(builder: Any) -> dict[str, Any]:
    head = builder.Head()
    return {
        "head": (builder.head, head),
        "offset": builder.Offset(),
        "capacity": len(builder.Bytes),
        "written": bytes(builder.Bytes[head:]),
        "minalign": builder.minalign,
        "objectEnd": builder.objectEnd,
        "vtables": builder.vtables,
    }


class Twins:
    """The package's builder and ours. A method called on the twins is called on both; they have to come out alike."""

    def __init__(self, size: int = 1024, make: Callable[[int], Any] = Builder) -> None:
        self.package = flatbuffers.Builder(size)
        self.ours = make(size)
        self.compare()

    def compare(self) -> None:
        assert plain_state(self.ours) == plain_state(self.package)
        assert buffer_state(self.ours) == buffer_state(self.package)
        assert outcome(self.ours.Output) == outcome(self.package.Output)
        if self.package.finished:
            with memoryview(self.ours) as view:
                assert bytes(view) == bytes(self.package.Output())
        else:
            with pytest.raises(BufferError, match="not finished"):
                memoryview(self.ours)

    def attempt(self, operation: Callable[[Any], Any]) -> tuple[str, Any]:
        """Does the same to both, and compares; returns how it ended."""
        expected = outcome(lambda: operation(self.package))
        assert outcome(lambda: operation(self.ours)) == expected
        if expected[0] == "raised" and issubclass(expected[1], HALFWAY):
            assert plain_state(self.ours) == plain_state(self.package)
        else:
            self.compare()
        return expected

    def call(self, name: str, *arguments: Any, **keywords: Any) -> tuple[str, Any]:
        return self.attempt(lambda builder: getattr(builder, name)(*arguments, **keywords))

    def make(self, operation: Callable[[Any], Any]) -> Any:
        """Like `attempt`, for what must work; returns the result."""
        how, what = self.attempt(operation)
        assert how == "returned", what
        return what[1]

    def alike(self) -> bool:
        return buffer_state(self.ours) == buffer_state(self.package)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **keywords: self.make(lambda builder: getattr(builder, name)(*arguments, **keywords))


def finished_builder(content: bytes = b"message", size: int = 64, make: Callable[[int], Any] = Builder) -> Any:
    builder = make(size)
    builder.Finish(builder.CreateByteVector(content))
    return builder

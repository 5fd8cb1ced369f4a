"""Framers and deframers written in Python: of the default format, and of one that the package does not know."""

from __future__ import annotations

from typing import Any

from flatstream import Deframer, Framer, FrameSpan, InvalidFrameError

MAGIC = b"MAGC"


class PythonFramer(Framer):
    """The default framer in Python: the length, then the payload, in pieces of at most `piece_size` bytes if given."""

    def __init__(self, piece_size: int | None = None) -> None:
        self.piece_size = piece_size

    def frame_and_write(self, writer: Any, payload: Any) -> None:
        writer.write(len(payload).to_bytes(4, "little"))
        if self.piece_size is None:
            writer.write(payload)
            return
        for place in range(0, len(payload), self.piece_size):
            writer.write(payload[place : place + self.piece_size])


class PythonDeframer(Deframer):
    """The default deframer in Python, without a limit."""

    def locate(self, data: Any) -> FrameSpan | int:
        if len(data) < 4:
            return 4
        end = 4 + int.from_bytes(data[:4], "little")
        return FrameSpan(4, end, end)


class MagicFramer(Framer):
    """``MAGC``, then the frame of another framer."""

    def __init__(self, inner: Framer) -> None:
        self.inner = inner

    def frame_and_write(self, writer: Any, payload: Any) -> None:
        writer.write(MAGIC)
        self.inner.frame_and_write(writer, payload)


class MagicDeframer(Deframer):
    """``MAGC``, then the frame of another deframer, whose checksum is not looked at."""

    def __init__(self, inner: Deframer) -> None:
        self.inner = inner

    def locate(self, data: Any) -> FrameSpan | int:
        # A part of a magic number may be wrong already.
        if bytes(data[:4]) != MAGIC[: len(data)]:
            raise InvalidFrameError(f"expected the magic number {MAGIC!r}, got {bytes(data[:4])!r}")
        if len(data) < 8:
            return 8
        found = self.inner.locate(data[4:])
        return found + 4 if isinstance(found, int) else FrameSpan(*(place + 4 for place in found))


class CheckedMagicDeframer(MagicDeframer):
    """The same, with the inner deframer's check of each frame."""

    def check(self, frame: Any, payload: Any) -> None:
        self.inner.check(frame[4:], payload)

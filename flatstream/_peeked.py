"""Sources whose first bytes can be looked at before they are read, although they cannot seek."""

from __future__ import annotations

import io
from typing import Any

__all__ = ["PeekedFile", "UnseekableFile", "read_fully"]


def read_fully(read: Any, size: int) -> bytes:
    """`size` bytes from ``read(size)``, which may give fewer at a time; fewer only at the end."""
    pieces: list[bytes] = []
    while size > 0 and (piece := read(size)):
        pieces.append(piece)
        size -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class PeekedFile(io.RawIOBase):
    """A raw file to read, which keeps the bytes that `peek` has shown until they are read.

    Subclasses have ``_take(size)``, which returns up to `size` bytes, b"" at the end, and never more.
    """

    def __init__(self) -> None:
        # Shown and not read, from `_read` on.
        self._shown = b""
        self._read = 0
        # An error of `_take` that `peek` met. It belongs behind the bytes that were shown.
        self.error: Exception | None = None

    def _take(self, size: int) -> bytes | memoryview:
        raise NotImplementedError

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer if the end or an error comes before; the position stays where it is."""
        missing = size - (len(self._shown) - self._read)
        if missing > 0 and self.error is None:
            pieces: list[bytes | memoryview] = [self._shown[self._read :]]
            try:
                while missing > 0 and (piece := self._take(missing)):
                    pieces.append(piece)
                    missing -= len(piece)
            except Exception as error:
                self.error = error
            finally:
                self._shown, self._read = b"".join(pieces), 0
        return self._shown[self._read : self._read + size]

    def shown(self) -> bytes:
        """The next bytes, as far as `peek` has shown them."""
        return self._shown[self._read :]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with memoryview(buffer).cast("B") as view:
            data: bytes | memoryview
            if self._shown:
                data = memoryview(self._shown)[self._read : self._read + len(view)]
                self._read += len(data)
                if self._read == len(self._shown):
                    self._shown, self._read = b"", 0
            elif self.error is not None:
                raise self.error
            else:
                data = self._take(len(view))
            view[: len(data)] = data
            return len(data)


class UnseekableFile(PeekedFile):
    """A pipe, a device, or whatever else has ``read(size)`` and no position. It is closed with this object."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self.name = getattr(file, "name", None)

    def _take(self, size: int) -> bytes:
        return self._file.read(size) or b""

    def fileno(self) -> int:
        return self._file.fileno()  # type: ignore[no-any-return]

    def close(self) -> None:
        if not self.closed:
            try:
                self._file.close()
            finally:
                super().close()

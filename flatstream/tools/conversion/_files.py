"""The new file of a conversion, which gets its name when it is complete, and the file that is read."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Any, BinaryIO

from flatstream._endpoints import is_path
from flatstream._files import check_new, give_name, open_partial, say_what_is_full, sync
from flatstream.tools.conversion._formats import open_compressed

__all__ = ["NewFile", "open_binary"]


def open_binary(source: Any, compression: str) -> Any:
    """A binary file object to read a source from: a path, which is opened, or a file object, which stays open."""
    if compression:
        return open_compressed(source, compression, "rb")
    return open(source, "rb") if is_path(source) else contextlib.nullcontext(source)


def _open_new(path: str) -> BinaryIO:
    return open(path, "xb", buffering=1 << 18)


class NewFile:
    """A file that has another name until `finish` was called. Any other end of the ``with`` block removes it.

    Parameters
    ----------
    out : str or binary file object
        The path, which must not exist; or a file object, such as a pipe, which is written as it is and stays open.
    compression : str
        The ending of a compression, or "".
    sealed : bool
        Whether a stream is written, which Zstandard compresses in blocks: see docs/sealed-files.md.
    """

    def __init__(self, out: Any, compression: str, *, sealed: bool = False) -> None:
        self.path: str | None = out if isinstance(out, str) else None
        self.partial = ""
        self.raw: BinaryIO = out
        if self.path is not None:
            check_new(self.path)
            self.partial, self.raw = open_partial(self.path, _open_new)
        self.wrapped: Any = None
        try:
            if compression:
                self.wrapped = open_compressed(self.raw, compression, "wb", sealed=sealed)
        except BaseException:
            self._discard()
            raise

    @property
    def file(self) -> Any:
        """The file object to write to."""
        return self.raw if self.wrapped is None else self.wrapped

    def finish(self) -> int | None:
        """Makes the file durable and gives it its name. Returns its size; None for a file object.

        Raises
        ------
        FileExistsError
            Another file has the name by now.
        OSError
            The file cannot be written, or is not as long as what was written.
        """
        if self.wrapped is not None:
            self.wrapped.close()
        self.raw.flush()
        if self.path is None:
            return None
        sync(self.raw.fileno())
        size = os.fstat(self.raw.fileno()).st_size
        if size != self.raw.tell():
            raise OSError(errno.EIO, "the new file is not as long as what was written to it", self.partial)
        self.raw.close()
        give_name(self.partial, self.path)
        self.path = None
        return size

    def _discard(self) -> None:
        if self.path is None:
            return
        with contextlib.suppress(Exception):
            self.raw.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.partial)

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        say_what_is_full(error, self.path or str(getattr(self.raw, "name", self.raw)).strip("<>"))
        # After an error, what is left is no result. After `finish`, there is no path any more.
        if self.path is not None and self.wrapped is not None:
            with contextlib.suppress(Exception):
                self.wrapped.close()
        self._discard()

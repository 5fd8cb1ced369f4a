"""Files that a URL names, such as ``s3://bucket/events.fs`` and ``https://host/events.fs``, read through fsspec."""

from __future__ import annotations

import builtins
import glob
import importlib
import io
import re
from typing import Any

from flatstream._peeked import UnseekableFile

__all__ = ["is_url", "list_urls", "open_url", "stands_for_several"]

# A scheme has two characters or more: one is a drive.
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")

# The pieces that are fetched and kept. They are read again when a stream is looked at before it is read.
BLOCK = 4 << 20
BLOCKS = 8


def is_url(path: Any) -> bool:
    """Whether `path` is a str that begins with a scheme and ``://``."""
    return isinstance(path, str) and URL.match(path) is not None


def open_url(url: str) -> io.RawIOBase:
    """The file that `url` names, to read it. Its errors name the URL.

    Raises
    ------
    ImportError
        fsspec, or the package that it needs for this scheme, is not installed.
    ValueError
        There is no such scheme.
    OSError
        The file cannot be opened.
    """
    fsspec = _import_fsspec(url)
    try:
        file_system, path = fsspec.core.url_to_fs(url)
        file = file_system.open(
            path, "rb", block_size=BLOCK, cache_type="blockcache", cache_options={"maxblocks": BLOCKS}
        )
    except ImportError as error:
        raise ImportError(f"{url}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error
    except Exception as error:
        raise _named(error, url) from error
    remote = RemoteFile(file, url, (file_system, path))
    return remote if remote.seekable() else UnseekableFile(remote)


def _import_fsspec(url: str) -> Any:
    try:
        # By name, because its types are not known to type checkers.
        return importlib.import_module("fsspec")
    except ImportError:
        raise ImportError(
            f"reading {url} needs the package fsspec: pip install 'flatstream[remote]', and the package that fsspec "
            "needs for this kind of address, as s3fs"
        ) from None


def stands_for_several(url: str) -> bool:
    """Whether a URL is a pattern, or ends with a slash as a folder. (Of one for HTTP, "?" and the like mean other
    things.)
    """
    return not url.lower().startswith("http") and (url.endswith("/") or glob.has_magic(url))


def list_urls(url: str, endings: tuple[str, ...]) -> list[str]:
    """The URLs of the files that a pattern matches, or of those in a folder that end with one of `endings`; sorted.

    Raises
    ------
    ImportError, ValueError, OSError
        As `open_url`; or they cannot be listed.
    """
    fsspec = _import_fsspec(url)
    try:
        file_system, path = fsspec.core.url_to_fs(url)
        if glob.has_magic(url):
            found = file_system.glob(path, detail=True).values()
        else:
            found = [known for known in file_system.ls(path, detail=True) if known["name"].endswith(endings)]
        return sorted(file_system.unstrip_protocol(known["name"]) for known in found if known["type"] == "file")
    except ImportError as error:
        raise ImportError(f"{url}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error
    except Exception as error:
        raise _named(error, url) from error


def _named(error: Exception, url: str) -> OSError:
    """`error` as an OSError whose text has the URL, of the same class if that is one of Python's."""
    kind: type[OSError] = type(error) if isinstance(error, OSError) else OSError
    if getattr(builtins, kind.__name__, None) is not kind:
        builtin = [cls for cls in kind.__mro__ if getattr(builtins, cls.__name__, None) is cls]
        kind = next(cls for cls in builtin if issubclass(cls, OSError))
    text = str(error) or type(error).__name__
    if text == url and error.__cause__ is not None:
        # As from fsspec where nobody answers.
        text = f"{url}: {error.__cause__}"
    number = getattr(error, "errno", None)
    if isinstance(number, int):
        return kind(number, getattr(error, "strerror", None) or text, url)
    return kind(text if url in text else f"{url}: {text}")


class RemoteFile(io.RawIOBase):
    """A file of fsspec. Closing it closes the file.

    Parameters
    ----------
    file : file object
        The file.
    url : str
        Its URL, for messages.
    where : tuple of fsspec.AbstractFileSystem and str, optional
        Where parts of it can be fetched.
    """

    def __init__(self, file: Any, url: str, where: tuple[Any, str] | None = None) -> None:
        self._file = file
        self._where = where
        self.name = url
        size = getattr(file, "size", None)
        self._size: int | None = size if isinstance(size, int) else None
        # A server that gives no parts of files does not tell their size either; such a file says that it can seek.
        self._can_seek = self._size is not None and bool(file.seekable())

    @property
    def size(self) -> int:
        """The size in bytes, as it was when the file was opened; -1 if it is not known."""
        return -1 if self._size is None else self._size

    def fetch(self, ranges: list[tuple[int, int]]) -> list[bytes]:
        """Parts of the file, from one offset to another, all at the same time where fsspec can do that. The position
        stays. Several threads may call it at once.

        Raises
        ------
        OSError
            One of them could not be fetched, or has another size.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if self._where is None:
            raise io.UnsupportedOperation(f"{self.name}: no parts of it can be fetched")
        file_system, path = self._where
        begins, ends = [begin for begin, _ in ranges], [end for _, end in ranges]
        try:
            found = file_system.cat_ranges([path] * len(ranges), begins, ends, on_error="return")
        except Exception as error:
            raise _named(error, self.name) from error
        for data, begin, end in zip(found, begins, ends, strict=True):
            if isinstance(data, Exception):
                raise _named(data, self.name) from data
            if len(data) != end - begin:
                raise OSError(
                    f"{self.name}: {len(data)} bytes were received instead of the {end - begin} from byte {begin} on: "
                    "the file was changed, or its server does not give parts of files"
                )
        return found  # type: ignore[no-any-return]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._can_seek

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        try:
            return self._file.seek(offset, whence)  # type: ignore[no-any-return]
        except Exception as error:
            raise _named(error, self.name) from error

    def tell(self) -> int:
        return self._file.tell()  # type: ignore[no-any-return]

    def readinto(self, buffer: Any) -> int:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with memoryview(buffer).cast("B") as view:
            try:
                before = self._file.tell() if self._can_seek else 0
                data = self._file.read(len(view)) or b""
            except Exception as error:
                raise _named(error, self.name) from error
            if not data and len(view) and self._can_seek and self._size is not None and before < self._size:
                raise OSError(f"{self.name}: nothing was received from byte {before} on, of {self._size} bytes")
            view[: len(data)] = data
            return len(data)

    def close(self) -> None:
        if not self.closed:
            try:
                self._file.close()
            finally:
                super().close()

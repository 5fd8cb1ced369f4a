"""Files that a URL names, such as ``s3://bucket/events.fs`` and ``https://host/events.fs``, read through fsspec."""

from __future__ import annotations

import builtins
import contextlib
import glob
import hashlib
import importlib
import io
import logging
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from flatstream._peeked import UnseekableFile, read_fully

__all__ = [
    "RemoteFile",
    "RemoteStatus",
    "is_url",
    "list_urls",
    "open_url",
    "remote_of",
    "size_of_url",
    "stands_for_several",
]

logger = logging.getLogger("flatstream.remote")

# A scheme has two characters or more: one is a drive.
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")

# The pieces that are fetched and kept. They are read again when a stream is looked at before it is read.
BLOCK = 4 << 20
BLOCKS = 8

# So many seconds may pass before a server sends the next bytes of an object that is read to its end. By default,
# aiohttp ends every request after five minutes, however much came meanwhile.
SILENCE = 300

# By what stores tell one version of a file from another, as fsspec names it; what is said first is taken. Two files
# have one of the first group only if they have the same bytes. Times go in steps, of a second at many stores.
VERSIONS = ("ETag", "etag", "e_tag", "generation", "md5Hash", "md5", "content_md5", "Content-MD5", "Digest", "checksum")
TIMES = ("Last-Modified", "LastModified", "last_modified", "updated", "mtime", "modified", "modified_at", "created")

# Content-Range of the answer to a request for a part.
PART = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

# The servers of which it was said that they give no parts of files.
_told: dict[str, object] = {}


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """What a store tells of a file.

    Attributes
    ----------
    size : int or None
        In bytes.
    version : bytes or None
        8 bytes, made of what tells a version of the file from others: its ETag, a checksum, or else a time.
    is_certain : bool
        Whether another file has another version. Of times, that is not certain.
    """

    size: int | None = None
    version: bytes | None = None
    is_certain: bool = False

    @classmethod
    def of(cls, known: dict[str, Any]) -> RemoteStatus:
        """The status in what `fsspec.AbstractFileSystem.info` gives."""
        size = known.get("size")
        name = next((name for name in (*VERSIONS, *TIMES) if known.get(name) not in (None, "")), None)
        size = size if isinstance(size, int) else None
        if name is None:
            return cls(size)
        said = str(known[name])
        version = hashlib.blake2b(f"{name}: {said}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
        # A weak ETag is that of all forms of a file that mean the same.
        return cls(size, version, name in VERSIONS and not said.startswith("W/"))


def is_url(path: Any) -> bool:
    """Whether `path` is a str that begins with a scheme and ``://``."""
    return isinstance(path, str) and URL.match(path) is not None


def open_url(url: str, first: int | None = None) -> io.RawIOBase:
    """The file that `url` names, to read it. Its errors name the URL.

    Parameters
    ----------
    url : str
        The URL.
    first : int, optional
        How many bytes are wanted at its beginning, if it is not to be read on then.

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
    with _errors_of(url):
        file_system, path = fsspec.core.url_to_fs(url)
        opener = _open_http if _is_http(file_system) else _open_stored
        remote = opener(file_system, path, url, BLOCK if first is None else first)
    return remote if remote.seekable() else UnseekableFile(remote)


def _open_stored(file_system: Any, path: str, url: str, first: int) -> RemoteFile:
    """A file in a store that gives parts of files."""
    # What was listed before may not be what is there now.
    file_system.invalidate_cache(file_system._parent(path))
    file = _open_blocks(file_system, path)
    try:
        # Many files have asked for it already.
        known = getattr(file, "details", None)
        status = RemoteStatus.of(known) if isinstance(known, dict) else RemoteStatus()
        if status.version is None:
            status = RemoteStatus.of(file_system.info(path))
        return RemoteFile(file, url, (file_system, path), status=status)
    except BaseException:
        file.close()
        raise


def _open_blocks(file_system: Any, path: str, **options: Any) -> Any:
    """A file of fsspec that fetches blocks as they are read."""
    return file_system.open(
        path, "rb", block_size=BLOCK, cache_type="blockcache", cache_options={"maxblocks": BLOCKS}, **options
    )


def _is_http(file_system: Any) -> bool:
    protocols = file_system.protocol
    return "http" in ((protocols,) if isinstance(protocols, str) else protocols) and hasattr(file_system, "set_session")


def _open_http(file_system: Any, path: str, url: str, first: int) -> RemoteFile:
    """A file at http:// or https://.

    A server may answer a request for a part of a file with all of it, and only its answer shows that: fsspec then
    refuses to read anything behind the first block. So the first block is asked for here. If all of a larger file comes
    in its place, this answer is read to its end, as from a pipe. A file that is no larger is kept in memory.
    """
    known = file_system.info(path)
    size = known.get("size")
    gives_parts = bool(size) and known.get("partial", True)
    stream = _open_stream(file_system, path, {"Range": f"bytes=0-{first - 1}"} if gives_parts else {})
    try:
        part = PART.match(stream.r.headers.get("Content-Range", "")) if stream.r.status == 206 else None
        if part is not None and part[1] == "0":
            size = int(part[3]) if part[3] != "*" else size
            data = _whole(stream, min(first, size), url)
            status = _status_of(known, stream, size)
            stream.close()
            file = _open_blocks(file_system, path, size=size)
            return RemoteFile(file, url, (file_system, path), status=status, first=data)
        if stream.r.status == 206:
            # It was asked for the first block, and has sent another one.
            stream.close()
            stream = _open_stream(file_system, path, {})
        # What is compressed on its way has another size there.
        is_as_it_is = stream.r.headers.get("Content-Encoding", "identity") in ("identity", "")
        length = stream.r.headers.get("Content-Length") if is_as_it_is else None
        size = None if length is None else int(length)
        status = _status_of(known, stream, size)
        if size is not None and size <= BLOCK:
            data = _whole(stream, size, url)
            stream.close()
            return RemoteFile(io.BytesIO(data), url, status=status, first=data)
    except BaseException:
        stream.close()
        raise
    _tell_of_no_parts(url)
    return RemoteFile(stream, url, status=status)


def _open_stream(file_system: Any, path: str, headers: dict[str, str]) -> Any:
    """The answer to one request, as a file of fsspec that is read from its beginning to its end."""
    aiohttp = importlib.import_module("aiohttp")
    options: dict[str, Any] = {}
    if "timeout" not in file_system.kwargs and "timeout" not in file_system.client_kwargs:
        options["timeout"] = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
    if headers:
        # What is configured for all requests, and the size of what comes must be that of the file.
        options["headers"] = {**file_system.kwargs.get("headers", {}), **headers, "Accept-Encoding": "identity"}
    # With any size, fsspec does not ask for it again.
    return file_system.open(path, "rb", block_size=0, size=1, **options)


def _status_of(known: dict[str, Any], stream: Any, size: int | None) -> RemoteStatus:
    """The status of a file, by the answer with its bytes as far as that says it."""
    said = {name: value for name in (*VERSIONS, *TIMES) if (value := stream.r.headers.get(name))}
    return RemoteStatus.of({**known, **said, "size": size})


def _whole(stream: Any, size: int, url: str) -> bytes:
    """So many bytes of an answer, which has no others."""
    data = read_fully(stream.read, size)
    if len(data) < size:
        raise OSError(f"{url}: {len(data)} bytes were received, and then no more, of {size} bytes")
    return data


def _tell_of_no_parts(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    own = object()
    if _told.setdefault(server, own) is own:
        logger.warning(
            "%s gives no parts of files, or does not tell their sizes: files of more than %d MiB, as %s, are read from "
            "their beginnings to their ends, and no index is used",
            server,
            BLOCK >> 20,
            url,
        )


@contextlib.contextmanager
def _errors_of(url: str) -> Iterator[None]:
    """Has the errors of fsspec, and of what it uses, name a URL."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{url}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error
    except Exception as error:
        raise _named(error, url) from error


def _import_fsspec(url: str) -> Any:
    try:
        # By name, because its types are not known to type checkers.
        return importlib.import_module("fsspec")
    except ImportError:
        raise ImportError(
            f"reading {url} needs the package fsspec: pip install 'flatstream[remote]', and the package that fsspec "
            "needs for this kind of address, as s3fs"
        ) from None


def size_of_url(url: str) -> int | None:
    """The size of the file that `url` names, in bytes; None if that is not told. Errors are those of `open_url`."""
    fsspec = _import_fsspec(url)
    with _errors_of(url):
        file_system, path = fsspec.core.url_to_fs(url)
        return RemoteStatus.of(file_system.info(path)).size


def remote_of(file: Any) -> RemoteFile | None:
    """The file at a URL that is below a file from `open_file`; None if there is none."""
    while file is not None and not isinstance(file, RemoteFile):
        file = getattr(file, "_file", None)
    return file


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
    with _errors_of(url):
        file_system, path = fsspec.core.url_to_fs(url)
        # Stores keep what was listed before.
        file_system.invalidate_cache()
        if glob.has_magic(url):
            found = file_system.glob(path, detail=True).values()
        else:
            found = [known for known in file_system.ls(path, detail=True) if known["name"].endswith(endings)]
        return sorted(file_system.unstrip_protocol(known["name"]) for known in found if known["type"] == "file")


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
    status : RemoteStatus, optional
        What is told of it. Of a file that cannot seek, it has the size, if that is known.
    first : bytes
        Its first bytes, which were read already, or all. They are not read from `file`.
    """

    def __init__(
        self,
        file: Any,
        url: str,
        where: tuple[Any, str] | None = None,
        *,
        status: RemoteStatus | None = None,
        first: bytes = b"",
    ) -> None:
        self._file = file
        self._where = where
        self._first = first
        self.name = url
        size = len(first) if type(file) is io.BytesIO else getattr(file, "size", None)
        self._size: int | None = size if isinstance(size, int) else None
        # A server that gives no parts of files does not tell their size either; such a file says that it can seek.
        self._can_seek = self._size is not None and bool(file.seekable())
        self.status = RemoteStatus(self._size) if status is None else status
        self._end = self._size if self._can_seek else self.status.size
        self._is_cut = False

    @property
    def size(self) -> int:
        """The size in bytes, as it was when the file was opened; -1 if it is not known."""
        return -1 if self._size is None else self._size

    def cut(self, size: int) -> None:
        """Ends the file at this size, if it is larger; before anything was read."""
        if self._size is not None:
            self._size = min(self._size, size)
        self._end = size if self._end is None else min(self._end, size)
        self._is_cut = True

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
        known = len(self._first)
        missing = [(begin, end) for begin, end in ranges if end > known]
        fetched = iter(self._fetch(missing) if missing else ())
        return [next(fetched) if end > known else self._first[begin:end] for begin, end in ranges]

    def _fetch(self, ranges: list[tuple[int, int]]) -> list[bytes]:
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
        if whence == io.SEEK_END and self._size is not None:
            offset, whence = self._size + offset, io.SEEK_SET
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
                before = self._file.tell() if self._end is not None else 0
                size = len(view)
                if self._is_cut and self._end is not None:
                    size = max(0, min(size, self._end - before))
                if before < len(self._first):
                    data = self._first[before : before + size]
                    self._file.seek(before + len(data))
                else:
                    data = self._file.read(size) if size else b""
            except Exception as error:
                raise _named(error, self.name) from error
            if not data and size and self._end is not None and before < self._end:
                raise OSError(f"{self.name}: nothing was received from byte {before} on, of {self._end} bytes")
            view[: len(data)] = data
            return len(data)

    def close(self) -> None:
        if not self.closed:
            self._first = b""
            try:
                self._file.close()
            finally:
                super().close()

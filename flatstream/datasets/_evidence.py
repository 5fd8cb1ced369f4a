"""What a file is known by, without reading all of it: its first and last bytes, and the identity of a journal."""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Any

from flatstream._peeked import UnseekableFile
from flatstream._remote import RemoteFile
from flatstream.errors import FlatStreamError
from flatstream.journal._layout import MANIFEST, read_manifest

__all__ = ["KNOWN_BY", "fingerprints_at", "fingerprints_of", "hash_of", "identity_of"]

# So many bytes at the beginning of a file, and at its end: the description, which says when the stream was begun, or
# the first messages; and the last messages. The beginning alone may be the same in many files, if they have a large
# schema or no description.
KNOWN_BY = 4096

# How many journals are kept by their identities.
KEPT_JOURNALS = 64


def fingerprints_at(path: str, size: int, *, with_tail: bool = True) -> tuple[bytes | None, bytes | None]:
    """The same as `fingerprints_of`, of the file at a path; None if it cannot be read."""
    if not size:
        return None, None
    try:
        with open(path, "rb", buffering=0) as file:
            return fingerprints_of(file, size, with_tail=with_tail)
    except OSError:
        # Whoever reads it gets the error.
        return None, None


def fingerprints_of(file: Any, size: int | None, *, with_tail: bool = True) -> tuple[bytes | None, bytes | None]:
    """The fingerprints of the first bytes of a file, and of the last ones before `size`, as `Part` has them.

    Parameters
    ----------
    file : raw file
        At its beginning, where it is afterwards, too.
    size : int or None
        How many bytes it has or had; None if that is not known.
    with_tail : bool
        Whether the second one is wanted.

    Returns
    -------
    tuple of bytes or None
        None for one that is not known: the file is empty or has become shorter, or only reading it would tell. Of a
        file that is no longer than the first bytes, there is no second one.

    Raises
    ------
    OSError
        It cannot be read.
    """
    first = KNOWN_BY if size is None else min(size, KNOWN_BY)
    last = 0 if size is None or not with_tail else min(size - first, KNOWN_BY)
    if not first:
        return None, None
    if isinstance(file, UnseekableFile):
        head = file.peek(first)
        if len(head) < first and file.error is not None:
            raise file.error
        return hash_of(head, first), None
    if isinstance(file, RemoteFile):
        if size is None or not file.seekable() or file.size < size:
            return None, None
        wanted = [(0, first), (size - last, size)] if last else [(0, first)]
        head, *tails = file.fetch(wanted)
        return hash_of(head, first), hash_of(tails[0], last) if tails else None
    beginning = hash_of(_read_at(file, 0, first), first)
    return beginning, hash_of(_read_at(file, size - last, last), last) if size is not None and last else None


def _read_at(file: Any, offset: int, size: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(file.fileno(), size, offset)
    file.seek(offset)
    data: bytes = file.read(size)
    file.seek(0)
    return data


def hash_of(data: Any, size: int | None = None) -> bytes | None:
    """The fingerprint of bytes; None if there should be more."""
    return hashlib.blake2b(data, digest_size=8).digest() if size is None or len(data) == size else None


def identity_of(journal: str) -> bytes | None:
    """What tells a journal from another one in the same folder; None if that is not known."""
    try:
        status = os.stat(os.path.join(journal, MANIFEST))
        return _identity_in(
            journal, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )
    except (OSError, FlatStreamError):
        return None


# The manifest of a large journal takes milliseconds, and each segment that is opened asks for it.
@functools.lru_cache(KEPT_JOURNALS)
def _identity_in(journal: str, *status: int) -> bytes | None:
    manifest = read_manifest(journal)
    return None if manifest is None else hash_of(manifest.id.encode())

"""What opening a file needs of indexes, which are a layer above: their package is imported when one is asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from flatstream.framing import Framer

__all__ = [
    "COMPRESSED",
    "SUFFIX",
    "IndexAccess",
    "WriterIndex",
    "checked_index",
    "index_access",
    "index_paths",
    "leftover_of_index",
    "register_index_access",
]

# What is behind the name of a file in that of its index.
SUFFIX = ".idx"

# What is behind it in that of a compressed one.
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")

# The name of an index while it is written to take the place of another (`flatstream._files.open_partial`): the number
# of the process is behind it, and a further number if there was such a file.
UNFINISHED = re.compile(rf"(.*{re.escape(SUFFIX)})\.partial-([0-9]+)(?:\.[0-9]+)?", re.DOTALL)


class WriterIndex(Protocol):
    """The index of a file that is being written."""

    @property
    def report(self) -> Any:
        """What it has so far, as an IndexReport."""

    def flushed(self) -> None:
        """The file has everything. To be called while the writer is held."""

    def close(self) -> None:
        """The file gets no more frames. Never raises an Exception."""

    def abandon(self) -> None:
        """This process is a fork of the one that writes."""


class IndexAccess(Protocol):
    """What the package of indexes does for writers."""

    def check(self, index: Any, description: Any, framer: Framer) -> None:
        """Raises ValueError, TypeError or KeyError if a stream that is begun so cannot have this index."""

    def begin(self, writer: Any, path: str, index: Any, size: int) -> WriterIndex | None:
        """Begins or continues the index of the file at `path`, of `size` bytes, which `writer` has opened.

        None, after a word in the log, if the index cannot be written. ValueError, TypeError or KeyError as of `check`.
        """


_import_access: Callable[[], IndexAccess] | None = None


def register_index_access(importer: Callable[[], IndexAccess]) -> None:
    """Registers a function that imports the package of indexes."""
    global _import_access
    _import_access = importer


def index_access() -> IndexAccess:
    """What the package of indexes does for writers."""
    if _import_access is None:
        raise RuntimeError("the package of indexes is not registered: import flatstream")
    return _import_access()


def checked_index(index: Any) -> bool | list[str]:
    """The argument `index` of a writer: whether there is one, or its fields.

    Raises
    ------
    TypeError
        It is neither a bool, None, nor an iterable of paths.
    """
    if index is None or isinstance(index, bool):
        return bool(index)
    if isinstance(index, (str, bytes)) or not isinstance(index, Iterable):
        raise TypeError(f"index must be True or a list of paths, got {type(index).__name__}: {index!r:.100}")
    return list(index)


def index_paths(path: str | os.PathLike[str]) -> list[str]:
    """Where the index of a file is looked for: beside it, and for a compressed one also beside the plain one."""
    name = os.fsdecode(path)
    found = [name + SUFFIX]
    stem, extension = os.path.splitext(name)
    if extension.lower() in COMPRESSED:
        found.append(stem + SUFFIX)
    return found


def leftover_of_index(name: str) -> tuple[str, int] | None:
    """The name of the index that an unfinished one was to take the place of, and the process; None for other names."""
    found = UNFINISHED.fullmatch(name)
    return None if found is None else (found[1], int(found[2]))

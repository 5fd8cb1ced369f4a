"""Steps with files that a crash must not undo: to make bytes and names lasting, and to begin and name new files."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TypeVar

__all__ = ["check_new", "give_name", "open_partial", "say_what_is_full", "sync", "sync_folder"]

OpenedT = TypeVar("OpenedT")

# Errors of writing only.
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def check_new(path: str) -> None:
    """Raises FileExistsError if there is a file at `path`."""
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def open_partial(path: str, open_new: Callable[[str], OpenedT]) -> tuple[str, OpenedT]:
    """Opens the file that `give_name` will call `path` when it is complete; until then it has another name.

    Parameters
    ----------
    path : str
        The name of the complete file.
    open_new : callable
        Opens a new file at the path that it gets, and raises FileExistsError if there is one.

    Returns
    -------
    tuple of str and object
        The name, ``<path>.partial-<number of the process>``, and the result of `open_new`. If an earlier process of the
        same number was killed and left a file of this name, a further number is added to it.
    """
    number = 0
    while True:
        partial = f"{path}.partial-{os.getpid()}" + (f".{number}" if number else "")
        try:
            return partial, open_new(partial)
        except FileExistsError:
            number += 1


def sync(fd: int) -> None:
    """Waits until the disk has the file, if its file system can do that."""
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems cannot do this at all. An I/O error is none of these.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


def say_what_is_full(error: BaseException | None, path: str) -> None:
    """Puts the path of a new file into an error that says that there is no room for it."""
    if isinstance(error, OSError) and error.errno in FULL and error.filename is None:
        error.filename = path


def sync_folder(path: str) -> None:
    """Makes the names in the folder of `path` lasting."""
    if sys.platform == "win32":
        return
    try:
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        # A folder in which one may write and not look cannot be synced.
        return
    try:
        sync(fd)
    finally:
        os.close(fd)


def give_name(path: str, name: str, *, keep: bool = False) -> None:
    """Gives the file at `path` another name in the same folder, and never takes that of another file.

    If the work ends in the middle, the file has both names. With `keep`, it has both afterwards too, where the file
    system has links.

    Raises
    ------
    FileExistsError
        There is a file of this name.
    """
    try:
        # Only a link is certain not to take the place of another file.
        os.link(path, name)
    except FileExistsError:
        raise
    except OSError:
        # No links here. An empty file holds the name, which the other one takes.
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)))
        try:
            os.replace(path, name)
        except OSError:
            os.unlink(name)
            raise
    else:
        if not keep:
            sync_folder(name)
            os.unlink(path)
    sync_folder(name)

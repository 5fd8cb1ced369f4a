"""Steps with files that a crash must not undo: to make bytes and names lasting, and to give a file another name."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["give_name", "say_what_is_full", "sync", "sync_folder"]

# Errors of writing only.
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


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

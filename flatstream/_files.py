"""Steps with files that a crash must not undo: to make bytes and names lasting, and to begin and name new files. And
opening files so that neither an exception of a signal handler loses a descriptor, nor a pipe is waited for.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = [
    "OpenFolder",
    "check_new",
    "check_regular",
    "duplicate",
    "give_name",
    "open_at_once",
    "open_descriptor",
    "open_partial",
    "open_regular",
    "say_what_is_full",
    "sync",
    "sync_folder",
]

OpenedT = TypeVar("OpenedT")

# Errors of writing only.
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def open_descriptor(path: str | os.PathLike[str], flags: int, mode: int = 0o777) -> int:
    """`os.open`, so that an exception of a signal handler loses no descriptor, which may hold a lock. The caller
    assigns what is returned, and has a ``try`` on the next line, or gives it to an `io.FileIO` at once.
    """
    return _descriptor(os.open, path, flags, mode)


def duplicate(fd: int) -> int:
    """`os.dup`, as `open_descriptor`."""
    return _descriptor(os.dup, fd)


def _descriptor(call: Callable[..., int], *arguments: Any) -> int:
    held: list[int] = []
    try:
        # The interpreter looks for signals behind a call of compiled code. This one has stored the descriptor by then.
        held.extend(map(call, *((one,) for one in arguments)))
    except BaseException:
        if held:
            os.close(held[0])
        raise
    # The interpreter does not look when a function of Python returns.
    return held[0]


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Opens a regular file to read it.

    Raises
    ------
    OSError
        It cannot be opened. EINVAL: it is something else, such as a socket, or a named pipe, which is not waited for.
    """
    try:
        file = io.FileIO(path, "rb", opener=open_at_once)
    except OSError as error:
        if error.errno == errno.ENXIO:
            # A socket.
            check_regular(path, path)
        raise
    try:
        check_regular(file.fileno(), path)
    except BaseException:
        file.close()
        raise
    return file


def open_at_once(path: str, flags: int) -> int:
    """Opens a file, and does not wait for the writer of a named pipe. An opener of `io.FileIO`."""
    return open_descriptor(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_regular(file: int | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Raises OSError with EINVAL if a descriptor, or path, is not that of a regular file. `path` is for the message."""
    mode = os.stat(file).st_mode
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}
        what = kinds.get(stat.S_IFMT(mode), "something else")
        raise OSError(errno.EINVAL, f"expected a regular file, got {what}", os.fspath(path))


class OpenFolder:
    """A folder that is open, so that its names can be synced. It is closed at the latest when the object is collected.

    Raises
    ------
    OSError
        It cannot be opened. PermissionError: one may write in it, and not look.
    """

    # Before it is open, and where folders cannot be.
    _fd: int | None = None

    def __init__(self, path: str) -> None:
        if sys.platform != "win32":
            self._fd = open_descriptor(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def fileno(self) -> int | None:
        """The descriptor; None where folders have none, or when it is closed."""
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


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
        fd = open_descriptor(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
        os.close(open_descriptor(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0)))
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

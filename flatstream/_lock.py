"""Locks on files, and opening a file to write it: a file has one writer at a time.

The lock is flock's, on the file itself. It belongs to the open file description, so it ends when the last descriptor of
that description is closed, at the latest with the process, and closing another descriptor of the same file does not end
it (as it would with POSIX record locks). Other than an open-file-description lock of fcntl, it shows who took it
(/proc/locks).

A forked child has the same open file descriptions. So that it does not keep the lock of a writer that the parent
process has closed, each child opens the files of such writers anew, without a lock, as soon as it exists.

On Windows one byte far beyond the data is locked, because other processes cannot read locked bytes there. This has not
been tested on Windows.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import sys
import time

from flatstream._files import check_regular, open_at_once, open_descriptor

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["lock_file", "open_for_reading", "open_for_writing", "try_lock", "who_writes"]

# How long a lock is tried for, in seconds. Between the fork and the exec of a process that another thread starts, the
# new process shares all locks; and recovery of a path holds a shared lock for a moment.
PATIENCE = 0.25
PAUSE = 0.01

# How often a file is opened again because its path names another one when it is locked.
REPLACEMENTS = 100

# On Windows, the position of the byte that is locked.
BEYOND_THE_DATA = 1 << 62

# The descriptors whose lock a forked child must not keep, and the device and inode of each. An entry may be older than
# the descriptor of that number.
_kept_from_children: dict[int, tuple[int, int]] = {}

# How often this process has forked.
_forks = 0


if sys.platform == "win32":

    def _try_lock(fd: int, *, shared: bool = False) -> bool:
        position = os.lseek(fd, 0, os.SEEK_CUR)
        try:
            os.lseek(fd, BEYOND_THE_DATA, os.SEEK_SET)
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            os.lseek(fd, position, os.SEEK_SET)
        return True

else:

    def _try_lock(fd: int, *, shared: bool = False) -> bool:
        try:
            fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def lock_file(fd: int, path: str | os.PathLike[str]) -> None:
    """Locks the regular file of descriptor `fd` until that is closed. Does nothing for a device, a pipe or a socket.

    A further call for the same open file does nothing. Forked children have the file open, too, and then the lock lasts
    until they have closed it; `open_for_writing` prevents that for its files.

    Parameters
    ----------
    fd : int
        A descriptor of the file, open for writing.
    path
        The name of the file, for error messages.

    Raises
    ------
    OSError
        EBUSY: another open file has the lock; the message says which process, if that can be known. Another number:
        the file system has no locks.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if _try_lock(fd):
                return
        except OSError as error:
            text = f"the file cannot be locked ({error.strerror}); with lock=False it is opened without a lock"
            raise OSError(error.errno, text, os.fspath(path)) from error
        if time.monotonic() > deadline:
            raise OSError(errno.EBUSY, f"another writer has the file open: {_holder(status)}", os.fspath(path))
        time.sleep(PAUSE)


def try_lock(fd: int) -> bool:
    """Locks a file until its descriptor is closed, if nobody has it locked; returns whether it is locked now.

    Raises
    ------
    OSError
        The file system has no locks.
    """
    return _try_lock(fd)


def who_writes(path: str | os.PathLike[str]) -> str | None:
    """Which process has locked the file to write it, as text; None if none has, or if that cannot be known."""
    # O_NONBLOCK: the path may name a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    fd = open_descriptor(path, flags)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        try:
            return None if _try_lock(fd, shared=True) else _holder(status)
        except OSError:
            # The file system has no locks.
            return None
    finally:
        os.close(fd)


def _holder(status: os.stat_result) -> str:
    """The process that has locked a file, as far as Linux tells."""
    pid = _pid_of_lock(status)
    if pid is None:
        return "the process is not known"
    if pid == os.getpid():
        return f"this process, {pid}"
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return f"process {pid} ({file.read().strip()})"
    except OSError:
        return f"process {pid}, or one that it forked"


def _pid_of_lock(status: os.stat_result) -> int | None:
    """The process that has locked a file, by the list of all locks, which has the inodes."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file]
        for fields in lines:
            # "1: FLOCK  ADVISORY  WRITE 4711 fe:00:123456 0 EOF"; behind a "->", one that waits for a lock.
            if len(fields) == 8 and fields[1] == "FLOCK" and fields[3] == "WRITE":
                where, _, inode = fields[5].rpartition(":")
                pid = int(fields[4])
                # With some file systems (btrfs, for example), stat() gives another device than this list.
                if pid > 0 and inode == str(status.st_ino) and (where == device or _has_open(pid, status)):
                    return pid
    except (OSError, ValueError):
        pass
    return None


def _has_open(pid: int, status: os.stat_result) -> bool:
    """Whether a process has the file open, as far as this process may know."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(os.path.join(folder, name)), status):
                    return True
    except OSError:
        pass
    return False


def _release_in_child() -> None:
    """Gives a forked child descriptors of its own for the files that writers of its parent process have locked."""
    for fd, identity in _kept_from_children.items():
        with contextlib.suppress(OSError):
            status = os.fstat(fd)
            # Otherwise the descriptor was closed, and another file has its number.
            if (status.st_dev, status.st_ino) == identity and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
                try:
                    _separate(fd)
                except OSError:
                    # Writing to this raises OSError. The descriptor is not simply closed, because a file object has its
                    # number, which would be another file's soon.
                    _replace(fd, open_descriptor(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    _kept_from_children.clear()


def _separate(fd: int) -> None:
    """Makes `fd` a descriptor of its own of the same file, which forked processes do not share, without a lock.

    Raises OSError if there is no /proc, or no right to open the file any more.
    """
    flags = fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK)
    _replace(fd, open_descriptor(f"/proc/self/fd/{fd}", flags | os.O_CLOEXEC))


def _replace(fd: int, fresh: int) -> None:
    try:
        os.dup2(fresh, fd, inheritable=False)
    finally:
        os.close(fresh)


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_count_fork, after_in_child=_release_in_child)


def open_for_writing(path: str | os.PathLike[str], mode: str, *, lock: bool = True, regular: bool = False) -> io.FileIO:
    """Opens a file to append to it, which is locked and then, with mode "wb", emptied.

    Parameters
    ----------
    path
        The file. A device or a pipe is neither locked nor emptied.
    mode : {"wb", "ab", "xb"}
        As of `io.FileIO`. In each mode all writes go to the end of the file, wherever that is at the time: after
        another program has emptied the file, writing goes on at its beginning.
    lock : bool
        Whether to lock it (see `lock_file`); a forked child does not keep the lock.
    regular : bool
        Whether it must be a regular file. Otherwise, opening a pipe waits for its reader.

    Raises
    ------
    OSError
        The file cannot be opened, or it is locked. It is unchanged. EINVAL: it must be a regular file, and is not.
    """

    def opener(name: str, flags: int) -> int:
        flags = flags & ~os.O_TRUNC | os.O_APPEND
        if regular:
            # Of no meaning for regular files.
            flags |= getattr(os, "O_NONBLOCK", 0)
        for _ in range(REPLACEMENTS):
            forks = _forks
            try:
                fd = open_descriptor(name, flags, 0o666)
            except OSError as error:
                if regular and error.errno == errno.ENXIO:
                    # A pipe without a reader, or a socket.
                    check_regular(name, name)
                raise
            try:
                if regular:
                    check_regular(fd, name)
                if not lock:
                    return fd
                status = os.fstat(fd)
                _kept_from_children[fd] = (status.st_dev, status.st_ino)
                if forks != _forks and stat.S_ISREG(status.st_mode):
                    # Another thread has forked since the file is open, and the child knows nothing of it.
                    with contextlib.suppress(OSError):
                        _separate(fd)
                lock_file(fd, name)
                if _is_named(fd, name):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            # Another process moved or removed the file before it was locked.
            os.close(fd)
        raise OSError(errno.EBUSY, "another process replaces the file again and again", name)

    try:
        file = io.FileIO(path, mode, opener=opener)
    except IsADirectoryError as error:
        what = "is a folder: if it is a journal, flatstream.journal.JournalWriter writes to it"
        raise IsADirectoryError(error.errno, what, path) from None
    try:
        if mode == "wb" and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            os.ftruncate(file.fileno(), 0)
    except BaseException:
        file.close()
        raise
    return file


def open_for_reading(written: io.FileIO) -> io.FileIO:
    """Opens the file that `written` has open, which was opened by its path, to read it.

    Raises
    ------
    OSError
        It cannot be opened, or its path names another file now.
    """
    # Somebody may have put a pipe in its place.
    file = io.FileIO(written.name, "rb", opener=open_at_once)
    try:
        if not os.path.sameopenfile(file.fileno(), written.fileno()):
            raise OSError(errno.EBUSY, "another process has replaced the file", written.name)
    except BaseException:
        file.close()
        raise
    return file


def _is_named(fd: int, path: str) -> bool:
    """Whether the path names the file of the descriptor. True for what is no regular file."""
    mine = os.fstat(fd)
    if not stat.S_ISREG(mine.st_mode):
        return True
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(mine, named)

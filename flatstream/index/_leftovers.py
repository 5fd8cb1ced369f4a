"""What a crash left of indexes that were about to take the place of others: found, and removed if that is certain.

An index that is replaced is first written to ``<index>.partial-<number of the process>`` (`flatstream._files`). Its
process has it locked, and has the index locked that it replaces.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import time
from collections.abc import Callable

from flatstream._files import open_descriptor
from flatstream._index_hook import leftover_of_index
from flatstream._lock import try_lock

__all__ = ["remove_leftovers"]

logger = logging.getLogger("flatstream.index")

# For so many seconds a folder is not listed again: one with many files, each of which gets an index, would be listed
# as often.
LISTED_FOR = 5.0
KEPT_FOLDERS = 16

# How much of a file shows what it is.
LOOKED_AT = 64 << 10

# Of these it is known that no other computer has them: there, the lock and the number of a process tell nothing.
LOCAL = frozenset(
    {"bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "jfs", "ntfs3", "overlay", "ramfs", "reiserfs"}
    | {"tmpfs", "vfat", "xfs", "zfs"}
)

# When a folder was listed, and the leftovers in it.
_listed: dict[str, tuple[float, list[str]]] = {}


def remove_leftovers(index: str, looks_like_one: Callable[[bytes], bool]) -> None:
    """Removes what processes that are gone left beside an index.

    Nothing is removed that somebody may use, or may have made by other means: on a file system that other computers may
    have, too; of a process that is there, or of another user; what is locked, no regular file, or has other content.
    Errors are passed over.

    Parameters
    ----------
    index : str
        The path of the index, which the caller has locked.
    looks_like_one : callable
        Whether a file with these first bytes is an index, or what is left of one.
    """
    if sys.platform == "win32":
        # There, to ask for a process by a signal would end it.
        return
    folder, name = os.path.split(index)
    with contextlib.suppress(OSError):
        for found in _leftovers_in(folder or "."):
            known = leftover_of_index(found)
            if known is None or known[0] != name:
                continue
            path = os.path.join(folder, found)
            if _is_gone(known[1]) and is_local(folder or ".") and _remove(path, looks_like_one):
                logger.info("removed %s, which a process left that is gone", path)


def _leftovers_in(folder: str) -> list[str]:
    key = os.path.abspath(folder)
    now = time.monotonic()
    known = _listed.get(key)
    if known is not None and now - known[0] < LISTED_FOR:
        return known[1]
    found = [name for name in os.listdir(folder) if leftover_of_index(name) is not None]
    if len(_listed) >= KEPT_FOLDERS:
        _listed.clear()
    _listed[key] = now, found
    return found


def _is_gone(process: int) -> bool:
    """Whether there is no process of this number. This one has what it uses locked."""
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def is_local(folder: str) -> bool:
    """Whether a folder is on a file system that this computer alone has, as far as that is known."""
    path = os.path.realpath(folder)
    best, kind = "", ""
    try:
        for line in _mounts():
            before, _, behind = line.partition(" - ")
            mount = _unescaped(before.split(" ")[4])
            is_inside = mount == "/" or path == mount or path.startswith(mount + "/")
            # Of two at one place, the later one is seen.
            if is_inside and len(mount) >= len(best):
                best, kind = mount, behind.split(" ")[0]
    except (OSError, IndexError, ValueError):
        return False
    return kind in LOCAL


def _mounts() -> list[str]:
    """The lines in which Linux lists file systems; see proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return file.readlines()


def _unescaped(text: str) -> str:
    """A path as the kernel lists it, which has spaces and the like as octal numbers."""
    first, *others = text.split("\\")
    return first + "".join(chr(int(other[:3], 8)) + other[3:] for other in others)


def _remove(path: str, looks_like_one: Callable[[bytes], bool]) -> bool:
    fd = open_descriptor(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            return False
        if not try_lock(fd) or not looks_like_one(os.read(fd, LOOKED_AT)):
            return False
        if not os.path.samestat(status, os.lstat(path)):
            return False
        os.unlink(path)
        return True
    finally:
        os.close(fd)

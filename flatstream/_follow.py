"""Following a file that is being written: looking at it, and waiting until it changes. docs/following.md describes it.

On Linux the kernel reports changes (inotify, through ctypes, because the standard library has no function for it).
Elsewhere, and where inotify cannot be had, the file is looked at again and again. In both cases the path is looked up
about once a second, because not every change is reported: not that of a file on another computer, for instance.
"""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import struct
import sys
import threading
import time
from typing import Any

from flatstream._endpoints import Source, compression_of, is_path
from flatstream._files import open_at_once
from flatstream._remote import is_url
from flatstream.errors import InvalidFrameError

__all__ = ["PATH_INTERVAL", "Follower", "Watch", "follow_path", "open_watch", "read_once"]

# In seconds. How often the path is looked up.
PATH_INTERVAL = 1.0
# How long to wait between two looks at a file whose changes are not reported: doubled from look to look.
SHORTEST_PAUSE = 1e-3
LONGEST_PAUSE = 20e-3
# How long bytes may be missing from a part of the file that it already counts as its own. The kernel needs less.
SETTLING = 10e-3
# How long a frame may be half written before the bytes behind its header are searched for others. They are searched
# again after pauses that are twice as long each time, up to the longest, if the file has another size then.
STALLED_AFTER = 1.0
LONGEST_SEARCH_PAUSE = 30.0
# After so many changes that were not reported in a row, reports are no longer waited for.
MOST_MISSED = 2

# The size of the pieces in which a file is searched for anything but zeros.
PIECE = 64 * 1024
ZEROS = bytes(PIECE)

# From <sys/inotify.h>.
IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ONLYDIR = 0x1000000
# Descriptor of the watch, mask, cookie, length of the name that follows, which is 0 when a file is watched.
EVENT = struct.Struct("iIII")
# Enough for many events of a watched file, and for some with names of a folder's files. They stay queued until they are
# read, and equal ones become one.
EVENTS_SIZE = 256 * EVENT.size


def follow_path(path: Any) -> Source:
    """The Source for a reader that follows the file at `path`. A Source is returned as it is.

    Raises
    ------
    TypeError
        `path` is not a path: without one, nobody can see that the file was replaced.
    io.UnsupportedOperation
        It is not a regular file.
    ValueError
        It is a URL.
    InvalidFrameError
        The file is compressed.
    OSError
        It cannot be opened.
    """
    if isinstance(path, Source):
        return path
    if not is_path(path):
        raise TypeError(f"follow=True needs a path, to see whether the file is replaced; got {path!r:.100}")
    if is_url(path):
        raise ValueError(f"follow=True needs a file of this computer, got {path!r:.200}")
    if (found := compression_of(path)) is not None:
        raise InvalidFrameError(
            f"follow=True needs a file as it is written, got a compressed one ({found}): {path!r:.200}",
            offset=0,
            frame=0,
        )
    file = io.FileIO(path, "rb", opener=open_at_once)
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise io.UnsupportedOperation(f"follow=True needs a regular file, got {path!r:.100}")
        follower = Follower(file, path)
    except BaseException:
        file.close()
        raise
    return Source(file, {"readinto": follower.readinto, "error_takes_nothing": True, "follower": follower}, owned=True)


class Follower:
    """What a decoder needs to know of a file that is being written.

    The decoder calls all methods but `wait` while it is held, so that no two of them run at once. Any number of threads
    may be in `wait` meanwhile. Bytes are read at explicit offsets: the position of `file`, which a forked process
    shares, is not used.

    Parameters
    ----------
    file : io.FileIO
        The file, a regular one. It stays open.
    path : str, bytes or os.PathLike
        Its path.
    """

    def __init__(self, file: io.FileIO, path: str | bytes | os.PathLike[Any]) -> None:
        self._file = file
        # Absolute, because the process may change its folder.
        self._path = os.path.abspath(os.fspath(path))
        status = os.fstat(file.fileno())
        self._identity = (status.st_dev, status.st_ino)
        # Where `readinto` reads. The decoder sets it.
        self.position = 0
        # The offset and the size of the last look. The bytes before `_settled` were there SETTLING seconds ago.
        self._offset = 0
        self.size = 0
        # Of a frame that was not whole: its offset, when the bytes behind it are to be searched, the pause after that,
        # and the size of the file that was searched; -1 for none.
        self._stalled = -1
        self._next_search = 0.0
        self._search_pause = 0.0
        self._searched_size = -1
        self._settled = 0
        # From the first to the second of these offsets, the file was found to have zeros only.
        self._zeros = (0, 0)
        # Why the path no longer names the file, as found by the last lookup; "" if it does.
        self._gone = ""
        self._next_lookup = time.monotonic() + PATH_INTERVAL
        self._pause = SHORTEST_PAUSE
        self._missed = 0
        # The first thread that waited, and whether another one has waited too.
        self._thread = 0
        self._shared = False
        self._closed = False
        self._process = os.getpid()
        # Before the first look, so that each later change is reported.
        self._watch = self._make_watch()

    def _make_watch(self) -> Watch | None:
        return _watch_file(self._file)

    # Looking

    def look(self, offset: int) -> int:
        """The number of bytes that the file has from `offset` on, where the last frame read ends.

        Raises
        ------
        OSError
            ESTALE: the file has become shorter than that. The attribute `offset` is set.
        """
        size = self._file_size()
        self._offset = offset
        if size != self.size:
            if size < self.size:
                self._settled = min(self._settled, size)
                self._zeros = (0, 0)
                self._stalled = -1
            self.size = size
            self._pause = SHORTEST_PAUSE
        if size < offset:
            raise self._stale(f"the file was cut to {size} bytes, and {offset} were read")
        return size - offset

    def readinto(self, buffer: memoryview) -> int:
        """Reads the bytes at `position`: as many as the last look saw, if they fit. Returns how many."""
        buffer = buffer[: max(0, self.size - self.position)]
        taken = read_once(self._file, self.position, buffer)
        # One read gives at most 2 GiB.
        return taken if taken == len(buffer) else taken + self._read_at(self.position + taken, buffer[taken:])

    def _file_size(self) -> int:
        # A tenth of the time of os.fstat. The position of the file is not used otherwise.
        return os.lseek(self._file.fileno(), 0, os.SEEK_END)

    def _read_at(self, offset: int, buffer: memoryview) -> int:
        """Fills `buffer` with the bytes at `offset`; returns how many, fewer only if the file ends."""
        taken = 0
        while taken < len(buffer) and (count := read_once(self._file, offset + taken, buffer[taken:])):
            taken += count
        return taken

    def only_zeros(self, offset: int) -> bool:
        """Whether the file has nothing but zeros from `offset` on.

        Of what was found to be zeros, only the first piece is read again, unless the file becomes shorter: there may be
        gigabytes, reserved for what will be written.
        """
        begin, end = self._zeros
        if not begin <= offset <= end:
            begin = end = offset
        if offset >= self.size:
            return True
        piece = bytearray(PIECE)
        view = memoryview(piece)
        while offset < self.size and (count := self._read_at(offset, view[: self.size - offset])):
            # Behind `count`, there are the zeros of the piece before.
            if piece != ZEROS:
                return False
            offset = end = max(offset + count, end)
            self._zeros = (begin, end)
        return True

    def settle(self, offset: int) -> bool:
        """Waits until bytes at `offset`, which look damaged, must have become visible; False if that was long ago."""
        if offset < self._settled:
            return False
        size = self._file_size()
        time.sleep(SETTLING)
        self._settled = size
        return True

    def is_stalled(self, offset: int) -> bool:
        """Whether the frame at `offset`, which is not whole, has been so for so long that the bytes behind it should be
        searched.
        """
        now = time.monotonic()
        if offset != self._stalled:
            self._stalled = offset
            self._search_pause = STALLED_AFTER
            self._next_search = now + STALLED_AFTER
            self._searched_size = -1
        return now >= self._next_search and self.size != self._searched_size

    def note_search(self) -> None:
        """Notes that these bytes were searched."""
        self._searched_size = self.size
        self._search_pause = min(2 * self._search_pause, LONGEST_SEARCH_PAUSE)
        self._next_search = time.monotonic() + self._search_pause

    def read_bytes(self, offset: int, size: int) -> memoryview:
        """The `size` bytes at `offset`; fewer if the file ends before."""
        view = memoryview(bytearray(size))
        return view[: self._read_at(offset, view)]

    # Waiting

    def wait(self, seconds: float) -> None:
        """Waits until the file may have changed, for at most `seconds` and at most about one second.

        Raises
        ------
        OSError
            ESTALE: the path names another file, or none, and the file had no further whole frame when it was looked at
            after that. The attribute `offset` is set.
        """
        if self._closed:
            return
        if os.getpid() != self._process:
            self._renew_in_child()
            return
        now = time.monotonic()
        if (self._gone or now >= self._next_lookup) and self._look_up(now):
            return
        seconds = max(0.0, min(seconds, self._next_lookup - now))
        # A thread that reads the report of a change, or all that was written, leaves none for the others.
        thread = threading.get_ident()
        if not self._thread:
            self._thread = thread
        self._shared = self._shared or thread != self._thread
        if self._shared:
            seconds = min(seconds, LONGEST_PAUSE)
        watch = self._watch
        if watch is None:
            time.sleep(min(seconds, self._pause))
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            return
        # Before the wait and not after it, so that a frame is not delayed by it. Some may be of changes that came after
        # the last look.
        changes = watch.take_events()
        if changes & ~IN_MODIFY:
            self._next_lookup = now
            return
        if self._file_size() != self.size or (changes and self.size != self._offset):
            return
        if watch.wait(seconds):
            self._missed = 0
        elif seconds >= PATH_INTERVAL / 2:
            self._notice_missing_reports(watch)

    def _notice_missing_reports(self, watch: Watch) -> None:
        """Gives up waiting for reports if the file grows without any, as one does that another computer writes."""
        if self._file_size() != self.size and not watch.wait(0):
            self._missed += 1
            if self._missed >= MOST_MISSED:
                self._watch = None

    def _look_up(self, now: float) -> bool:
        """Looks the path up at the time `now`; returns whether the file is to be looked at without waiting.

        Raises
        ------
        OSError
            See `wait`.
        """
        known = self._gone
        self._gone = self._lookup()
        self._next_lookup = now + PATH_INTERVAL
        if self._gone and known:
            raise self._stale(self._gone)
        # If it is gone, the writer may have written to the file until now, so it is looked at once more.
        return bool(self._gone)

    def _lookup(self) -> str:
        """What the path names, if that is not the file; else an empty string."""
        try:
            status = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return "the file was deleted or renamed: nothing is at its path"
        except OSError:
            # Nothing is known: a folder that may not be searched at the moment, for instance.
            return ""
        if (status.st_dev, status.st_ino) != self._identity:
            return "the file was replaced: another one is at its path"
        return ""

    def _stale(self, reason: str) -> OSError:
        error = OSError(errno.ESTALE, f"{reason} (stream offset {self._offset}): open it again to go on", self._path)
        error.offset = self._offset  # type: ignore[attr-defined]
        return error

    def _renew_in_child(self) -> None:
        """After a fork: watches the file anew. What the parent's watch reports goes to one of the two only."""
        self._process = os.getpid()
        self._thread = 0
        self._shared = False
        # Closes the inherited descriptor. The watch belongs to both and stays.
        self._watch = None
        self._watch = self._make_watch()

    def close(self) -> None:
        """Wakes the threads that wait. Later calls of `wait` return at once."""
        self._closed = True
        watch = self._watch
        if watch is not None and self._process == os.getpid():
            watch.wake()
        # Its descriptor is closed when the last thread has left `wait`.
        self._watch = None


if hasattr(os, "preadv"):

    def read_once(file: io.FileIO, offset: int, buffer: memoryview) -> int:
        return os.preadv(file.fileno(), (buffer,), offset)

else:

    def read_once(file: io.FileIO, offset: int, buffer: memoryview) -> int:
        file.seek(offset)
        return file.readinto(buffer) or 0


# inotify


class Watch:
    """An inotify instance that reports the changes of a file, or of several. It is closed when nothing refers to it any
    more.

    Parameters
    ----------
    descriptor : int
        The instance.
    libc : ctypes.CDLL
        The C library.
    """

    def __init__(self, descriptor: int, libc: Any) -> None:
        self.descriptor = descriptor
        self.libc = libc
        self.number = -1

    def add_file(self, file: io.FileIO) -> int:
        """Watches an open file too; returns the number of the watch, -1 if that cannot be."""
        # By its descriptor: something else may be at the path by now.
        return self._add(b"/proc/self/fd/%d" % file.fileno(), IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF)

    def add_folder(self, path: str) -> int:
        """Watches which files are created in a folder, renamed and deleted; returns the number of the watch, or -1."""
        changes = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF
        return self._add(os.fsencode(path), changes | IN_ONLYDIR)

    def _add(self, path: bytes, changes: int) -> int:
        import ctypes

        return int(self.libc.inotify_add_watch(self.descriptor, path, ctypes.c_uint32(changes)))

    def remove(self, number: int) -> None:
        """Ends a watch, which is reported itself."""
        self.libc.inotify_rm_watch(self.descriptor, number)

    def wait(self, seconds: float) -> bool:
        """Whether there is a report, now or within `seconds`."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def take_events(self) -> int:
        """Takes the reports that are there; returns the kinds of changes, as a mask."""
        try:
            events = os.read(self.descriptor, EVENTS_SIZE)
        except BlockingIOError:
            return 0
        kinds = at = 0
        while at < len(events):
            _, mask, _, size = EVENT.unpack_from(events, at)
            kinds |= mask
            at += EVENT.size + size
        return kinds

    def wake(self) -> None:
        """Ends the waits of all threads: the end of the watch is a report too."""
        self.remove(self.number)

    def __del__(self, close: Any = os.close) -> None:
        close(self.descriptor)


def _watch_file(file: io.FileIO) -> Watch | None:
    """A watch of an open file. None if there is no inotify here, or no more of it for this user."""
    watch = open_watch()
    if watch is None:
        return None
    watch.number = watch.add_file(file)
    return watch if watch.number >= 0 else None


def open_watch() -> Watch | None:
    """A Watch of nothing so far. None if there is no inotify here, or no more of it for this user."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    try:
        libc = ctypes.CDLL(None)
        descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, AttributeError):
        return None
    return Watch(descriptor, libc) if descriptor >= 0 else None

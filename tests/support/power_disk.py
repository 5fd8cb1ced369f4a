"""A disk that loses power.

Every write and every flush that reaches it is kept, so that what was on it at any moment, and what could have been on
it if the rest was still in its cache, can be looked at.

The disk is the only file of a FUSE file system that is served here, with a loop device over it and a real file system
in that. A flush of the loop device arrives as FSYNC: writes before it are on the disk for ever; of those behind it, any
may be lost when the power fails.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import random
import shutil
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Numbers of /usr/include/linux/fuse.h

LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE = 1, 2, 3, 4, 14, 15, 16, 17, 18
FSYNC, FLUSH, INIT, INTERRUPT, DESTROY, BATCH_FORGET = 20, 25, 26, 36, 38, 42

REQUEST = struct.Struct("<IIQQIIIHH")
ANSWER = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
READ_OR_WRITE = struct.Struct("<QQIIQII")
INIT_ANSWER = struct.Struct("<IIIIHHIIHHI28x")

BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
DIRECT_IO = 1
ROOT, DISK = 1, 2
LONGEST_WRITE = 1 << 20

SECTOR = 512

# How large the disks are, in MiB: little more than mkfs asks for.
SIZES = {"ext4": 24, "xfs": 300}


def missing_for(kind: str) -> str | None:
    """What this machine lacks for a disk with a file system of this kind; None if it lacks nothing."""
    if os.geteuid() != 0:
        return "mounting needs root"
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    for program in (f"mkfs.{kind}", "losetup", "mount", "umount"):
        if _program(program) is None:
            return f"{program} is missing"
    found = subprocess.run([_program("losetup") or "", "--find"], capture_output=True, text=True, check=False)
    return None if found.returncode == 0 else f"there are no loop devices: {found.stderr.strip()}"


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _call(*command: str) -> str:
    program = _program(command[0])
    assert program is not None, command
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise OSError(errno.EIO, f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


class PowerDisk:
    """A disk with an empty file system, mounted at `mounted`; a context manager.

    Parameters
    ----------
    folder : Path
        Where its files are; best in memory (/dev/shm).
    kind : str
        The file system: "ext4" or "xfs".
    options : str
        Options of its mount.
    watch : callable
        Called before each write and flush that arrives.

    Attributes
    ----------
    log : list
        The writes that arrived, as (position, bytes), and None for each flush.
    """

    def __init__(self, folder: Path, kind: str, options: str, watch: Callable[[], object]) -> None:
        self.folder = folder
        self.kind = kind
        self.options = options
        self.watch = watch
        self.size = SIZES[kind] << 20
        self.base = folder / "base"
        self.current = folder / "current"
        self.mounted = folder / "mounted"
        self.log: list[tuple[int, bytes] | None] = []
        # What `watch` raised.
        self._failures: list[Exception] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PowerDisk:
        with self._stack:
            with open(self.base, "wb") as file:
                file.truncate(self.size)
            make = ("-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0") if self.kind == "ext4" else ("-q", "-f")
            _call(f"mkfs.{self.kind}", *make, str(self.base))
            _call("cp", "--sparse=always", str(self.base), str(self.current))
            fuse = self.folder / "fuse"
            for path in (fuse, self.mounted):
                path.mkdir()
            self._image = os.open(self.current, os.O_RDWR | os.O_CLOEXEC)
            self._stack.callback(os.close, self._image)
            self._fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            thread = threading.Thread(target=self._serve, name="power-disk")
            self._stack.callback(thread.join, 60)
            self._stack.callback(os.close, self._fuse)
            _mount_fuse(fuse, self._fuse)
            self._stack.callback(_unmount, fuse)
            thread.start()
            device = _call("losetup", "--find", "--show", str(fuse / "disk"))
            self._stack.callback(_detach, device)
            _call("mount", "-t", self.kind, *(["-o", self.options] if self.options else []), device, str(self.mounted))
            self._stack.callback(_unmount, self.mounted)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._failures:
            raise self._failures[0]

    # The server

    def _serve(self) -> None:
        buffer = bytearray(LONGEST_WRITE + 8192)
        while True:
            try:
                size = os.readv(self._fuse, [buffer])
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                # ENODEV: unmounted.
                return
            _, code, unique, node, *_ = REQUEST.unpack_from(buffer)
            body = memoryview(buffer)[REQUEST.size : size]
            if code in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                answer, status = self._answer(code, node, body), 0
            except OSError as error:
                answer, status = b"", -(error.errno or errno.EIO)
            with contextlib.suppress(OSError):
                os.writev(self._fuse, [ANSWER.pack(ANSWER.size + len(answer), status, unique), answer])
            if code == DESTROY:
                return

    def _answer(self, code: int, node: int, body: memoryview) -> bytes:
        if code == INIT:
            ahead = struct.unpack_from("<III", body)[2]
            pages = LONGEST_WRITE // 4096
            flags = BIG_WRITES | MAX_PAGES
            return INIT_ANSWER.pack(7, 31, ahead, flags, 16, 12, LONGEST_WRITE, 1, pages, 0, 0)
        if code == LOOKUP:
            if bytes(body).rstrip(b"\0") != b"disk":
                raise OSError(errno.ENOENT, "no such file")
            return struct.pack("<QQQQII", DISK, 0, 3600, 3600, 0, 0) + self._attributes(DISK)
        if code in (GETATTR, SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if code == OPEN:
            return struct.pack("<QII", 0, DIRECT_IO, 0)
        if code == READ:
            _, position, size, *_ = READ_OR_WRITE.unpack_from(body)
            return os.pread(self._image, size, position)
        if code == WRITE:
            _, position, size, *_ = READ_OR_WRITE.unpack_from(body)
            data = bytes(body[READ_OR_WRITE.size : READ_OR_WRITE.size + size])
            self._call_watch()
            self.log.append((position, data))
            os.pwrite(self._image, data, position)
            return struct.pack("<II", size, 0)
        if code == FSYNC:
            self._call_watch()
            self.log.append(None)
            return b""
        if code == STATFS:
            return struct.pack("<QQQQQIIII24x", self.size // 4096, 0, 0, 2, 0, 4096, 255, 4096, 0)
        if code in (RELEASE, FLUSH, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "not served")

    def _call_watch(self) -> None:
        # The disk must go on, or everything that waits for it hangs.
        try:
            self.watch()
        except Exception as error:
            self._failures.append(error)

    def _attributes(self, node: int) -> bytes:
        mode, size = (stat.S_IFREG | 0o600, self.size) if node == DISK else (stat.S_IFDIR | 0o700, 0)
        return ATTRIBUTES.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

    # After the power has failed

    def image_after(self, moment: int, random_: random.Random, path: Path) -> None:
        """Writes what can be on the disk if the power fails when it has received `moment` entries of the log.

        All writes before the last flush are there; of the later ones each is there, or not, or a part of its sectors.
        """
        flushed = max((index + 1 for index in range(moment) if self.log[index] is None), default=0)
        _call("cp", "--sparse=always", str(self.base), str(path))
        kept = random_.choice([0.0, 0.5, 0.9, 1.0])
        fd = os.open(path, os.O_RDWR)
        try:
            for index in range(moment):
                if (entry := self.log[index]) is None:
                    continue
                position, data = entry
                if index >= flushed and random_.random() >= kept:
                    if random_.random() < 0.7:
                        continue
                    data = data[: random_.randrange(0, len(data) // SECTOR + 1) * SECTOR]
                os.pwrite(fd, data, position)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def mount_image(self, path: Path) -> Iterator[Path]:
        """Mounts an image, which lets the file system repair itself, and gives the folder."""
        folder = path.with_suffix(".mounted")
        folder.mkdir(exist_ok=True)
        device = _call("losetup", "--find", "--show", str(path))
        try:
            _call("mount", "-t", self.kind, *(["-o", self.options] if self.options else []), device, str(folder))
            try:
                yield folder
            finally:
                _unmount(folder)
        finally:
            _detach(device)


def _mount_fuse(folder: Path, fd: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    data = f"fd={fd},rootmode=40000,user_id=0,group_id=0"
    if library.mount(b"power-disk", os.fsencode(folder), b"fuse", ctypes.c_ulong(0), data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, f"mounting a FUSE file system: {os.strerror(number)}")


def _unmount(folder: Path) -> None:
    for _ in range(50):
        with contextlib.suppress(OSError):
            _call("umount", str(folder))
            return
        time.sleep(0.1)
    _call("umount", "--lazy", str(folder))


def _detach(device: str) -> None:
    _call("losetup", "--detach", device)

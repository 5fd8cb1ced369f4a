"""What a writer that starts does to a file that a crash may have left: `flatstream.open` with ``recover=True``.

Nothing is destroyed: what is cut off was copied to a file beside it before, and what is not understood is moved. Each
step is on the disk before the next one begins. The work can end at any point, and doing it again gives the same file:
a copy or a move that was begun is completed, and not begun a second time.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from flatstream._core.framing.deframer import NonEmptyDeframer
from flatstream._core.stream.frame_search import find_next_frames
from flatstream._file_types import checksum_of_first_frame
from flatstream._files import give_name, open_descriptor, sync, sync_folder
from flatstream._lock import open_for_reading, open_for_writing
from flatstream._startup_report import StartupReport
from flatstream.checksums import ChecksumType, NoChecksum
from flatstream.detection import other_checksum
from flatstream.errors import FlatStreamError, InvalidFrameError
from flatstream.framing import DefaultDeframer, Deframer, TransformDeframer
from flatstream.recovery import RecoveryEnd, recover

__all__ = ["check_checksum", "is_zero_from", "new_tail_names", "save_tail", "start_up"]

CHUNK = 1 << 20


def start_up(
    file: io.FileIO, deframer: Deframer, *, existed: bool, lock: bool, allow_empty: bool | None
) -> tuple[io.FileIO, StartupReport]:
    """Makes a file one that ends with a whole frame.

    Parameters
    ----------
    file : io.FileIO
        The file, from `open_for_writing` with mode "ab", locked unless `lock` is false.
    deframer : Deframer
        Reads the frames.
    existed : bool
        Whether the file existed before it was opened.
    lock : bool
        Whether to lock a new file that takes its place.
    allow_empty : bool, optional
        See `recover`.

    Returns
    -------
    file : io.FileIO
        `file`; or the new file, and then `file` is closed.
    report : StartupReport

    Raises
    ------
    InvalidFrameError
        The file is an intact stream with another checksum. It is unchanged.
    OSError
        From the file system. Nothing is lost, and a further call goes on with the work.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file, StartupReport("nothing", 0, 0)
    # The files beside it are beside the file itself, if the path is a symbolic link.
    path = os.fsdecode(os.path.realpath(file.name))
    size = os.fstat(file.fileno()).st_size
    with open_for_reading(file) as source:
        error = looks_like = None
        try:
            report = recover(source, deframer, allow_empty=allow_empty)
        except FlatStreamError as damage:
            # The causes and the tracebacks would keep the bytes that were read in memory.
            error = damage.with_traceback(None)
            error.__cause__ = error.__context__ = None
        else:
            if report.end is RecoveryEnd.CLEAN_EOF:
                for name in [] if existed else _left_empty(path):
                    # Where there are no links, the path names no file for a moment while a file is moved.
                    if hasattr(os, "fchmod"):
                        os.fchmod(file.fileno(), stat.S_IMODE(os.lstat(name).st_mode))
                    os.unlink(name)
                sync(file.fileno())
                sync_folder(path)
                return file, StartupReport("nothing" if existed else "created", report.frames, report.last_good_offset)
            zeros = is_zero_from(source, report.last_good_offset)
            if zeros or report.end is RecoveryEnd.TORN_TAIL:
                good = report.last_good_offset
                saved = None if zeros else save_tail(source, good, path)
                if os.fstat(file.fileno()).st_size != size:
                    raise OSError(errno.EBUSY, "another process writes to the file without a lock", file.name)
                os.ftruncate(file.fileno(), good)
                sync(file.fileno())
                return file, StartupReport("cut", report.frames, good, size - good, saved)
            looks_like = report.looks_like
        check_checksum(source, deframer)
    fresh, moved = _move(file, path, lock)
    try:
        fresh, after = start_up(fresh, deframer, existed=False, lock=lock, allow_empty=allow_empty)
    except BaseException:
        fresh.close()
        raise
    return fresh, after._replace(action="moved", saved_as=moved, error=error, looks_like=looks_like)


def check_checksum(source: io.FileIO, deframer: Deframer) -> None:
    """Raises InvalidFrameError if the stream was written with another checksum than that of `deframer`."""
    # The checksum is that of what is stored.
    while isinstance(deframer, (NonEmptyDeframer, TransformDeframer)):
        deframer = deframer.inner
    source.seek(0)
    first = memoryview(_read_exactly(source, CHUNK))
    kind = checksum_of_first_frame(first)
    if kind is None and find_next_frames(DefaultDeframer(), first, 0, len(first) < CHUNK, 0)[0] == 0:
        kind = ChecksumType.NONE
    if kind is None:
        # The first frame may be damaged too.
        kind = other_checksum(source, deframer)
    if kind is None and type(getattr(deframer, "checksum", NoChecksum())) is not NoChecksum:
        # Payloads that are no FlatBuffers are evidence only if frame follows frame from the first byte to the last.
        source.seek(0)
        with contextlib.suppress(FlatStreamError):
            report = recover(source, ChecksumType.NONE)
            # One frame may be a first one of the checksum that lacks a few bytes.
            is_stream = report.frames > 1 and report.end is RecoveryEnd.CLEAN_EOF
            kind = ChecksumType.NONE if is_stream else None
    if kind is None or type(kind.checksum()) is type(getattr(deframer, "checksum", NoChecksum())):
        return
    raise InvalidFrameError(
        f"the file is a stream with the checksum {kind.value!r}, and not with the one that it is opened with: nothing "
        "was changed",
        offset=0,
        frame=0,
    )


def is_zero_from(source: io.FileIO, begin: int) -> bool:
    """Whether all bytes from `begin` to the end are zero."""
    source.seek(begin)
    while chunk := source.read(CHUNK):
        if chunk.count(0) != len(chunk):
            return False
    return True


def save_tail(source: io.FileIO, begin: int, path: str) -> str:
    """Copies the bytes from `begin` to the end into a file beside `path`, and returns the path of the copy.

    A copy that an earlier call began is completed: a file of the right name that has the first bytes, or all.
    """
    for name in _beside(path, "torn", f"-{begin}"):
        with contextlib.suppress(OSError), _open_copy(name, 0) as copy:
            if _is_beginning(copy, source, begin):
                return _complete(copy, source, path)
    permissions = stat.S_IMODE(os.fstat(source.fileno()).st_mode) & 0o666
    for name in _new_names(path, "torn", f"-{begin}"):
        with contextlib.suppress(FileExistsError):
            copy = _open_copy(name, os.O_CREAT | os.O_EXCL, permissions)
            break
    with copy:
        source.seek(begin)
        return _complete(copy, source, path)


def _open_copy(name: str, flags: int, permissions: int = 0) -> io.FileIO:
    # Not another file through a symbolic link; and a pipe of that name does not block.
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    return io.FileIO(name, "r+b", opener=lambda path, own: open_descriptor(path, flags | own, permissions))


def _is_beginning(copy: io.FileIO, source: io.FileIO, begin: int) -> bool:
    """Whether `source` has the bytes of `copy` at `begin`. Its position is then behind them."""
    source.seek(begin)
    if not stat.S_ISREG(os.fstat(copy.fileno()).st_mode):
        return False
    while chunk := copy.read(CHUNK):
        if _read_exactly(source, len(chunk)) != chunk:
            return False
    return True


def _read_exactly(source: io.FileIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := source.read(size - len(data))):
        data += piece
    return data


def _complete(copy: io.FileIO, source: io.FileIO, path: str) -> str:
    """Copies the rest of `source` to the end of `copy`, and returns only when that is on the disk."""
    copy.seek(0, os.SEEK_END)
    while chunk := source.read(CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[copy.write(view) :]
    sync(copy.fileno())
    sync_folder(path)
    return str(copy.name)


def _move(file: io.FileIO, path: str, lock: bool) -> tuple[io.FileIO, str]:
    """Gives the file another name beside `path`, and returns the new file at `path` and the other name."""
    status = os.fstat(file.fileno())
    if not os.path.samestat(status, os.stat(path)):
        raise OSError(errno.EBUSY, "another process has replaced the file", path)
    if sys.platform == "win32":
        # An open file cannot be renamed there.
        file.close()
    # The new file takes the place of the old one when it has its permissions, and the old one another name.
    empty = _make_empty(path, stat.S_IMODE(status.st_mode))
    try:
        moved = _rename(path, status)
        os.replace(empty, path)
    except OSError:
        os.unlink(empty)
        raise
    sync_folder(path)
    # By the path as it was given: a symbolic link is followed.
    fresh = open_for_writing(file.name, "ab", lock=lock)
    file.close()
    return fresh, moved


def _make_empty(path: str, mode: int) -> str:
    """Makes an empty file beside `path`, with the permissions of the file there, and returns its name."""
    for name in _left_empty(path):
        os.unlink(name)
    for name in _new_names(path, "new"):
        try:
            fd = open_descriptor(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        try:
            if hasattr(os, "fchmod"):
                # The file may hold secrets. This one belongs to the process, whoever owns the other.
                os.fchmod(fd, mode)
        finally:
            os.close(fd)
        return name
    raise AssertionError("there is always another name")


def _left_empty(path: str) -> list[str]:
    """The empty files that `_make_empty` made in a start-up that was killed, and no other files."""
    made = re.compile(re.escape(path) + r"\.new-\d{8}T\d{6}\.\d{6}Z(\.\d+)?")
    return [name for name in _beside(path, "new") if made.fullmatch(name) and os.lstat(name).st_size == 0]


def _rename(path: str, status: os.stat_result) -> str:
    """Gives the file a second name; where there are no links, it has no other then."""
    for name in _beside(path, "damaged"):
        # A start-up that was killed has done so.
        if os.path.samestat(status, os.lstat(name)):
            return name
    for name in _new_names(path, "damaged"):
        try:
            give_name(path, name, keep=True)
        except FileExistsError:
            continue
        return name
    raise AssertionError("there is always another name")


def new_tail_names(path: str) -> Iterator[str]:
    """Names beside `path` for all of its bytes, as `save_tail` gives them."""
    return _new_names(path, "torn", "-0")


def _new_names(path: str, kind: str, end: str = "") -> Iterator[str]:
    """Names beside `path`, which sort by the time. The caller takes the first that does not exist."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    yield f"{path}.{kind}-{now}{end}"
    number = 1
    while True:
        yield f"{path}.{kind}-{now}.{number}{end}"
        number += 1


def _beside(path: str, kind: str, end: str = "") -> list[str]:
    """The existing files beside `path` that have such names, oldest first."""
    folder, base = os.path.split(path)
    try:
        names = os.listdir(folder)
    except PermissionError:
        # A folder in which one may write and not look.
        return []
    return [
        os.path.join(folder, name)
        for name in sorted(names)
        if name.startswith(f"{base}.{kind}-") and name.endswith(end)
    ]

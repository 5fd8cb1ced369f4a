"""Following inputs: files from an offset on, files that are still empty, and journals."""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from typing import Any

from flatstream._core.framing.deframer import Deframer
from flatstream._endpoints import Source as Endpoint
from flatstream._follow import Follower
from flatstream.cli._inputs import Input, Opened, Source
from flatstream.cli._output import complain
from flatstream.reader import StreamReader
from flatstream.tools.inputs import NotAStreamError

__all__ = ["follow_from", "is_empty_folder", "open_when_certain", "skip_to"]

# In seconds: how often an empty file is looked at.
PAUSE = 0.1

# A file that was empty is waited for up to this size, if it is not certain what its first bytes are.
ENOUGH = 1 << 20


class _FollowerFrom(Follower):
    """A follower whose offsets count from the middle of a file."""

    def __init__(self, file: io.FileIO, path: str, begin: int) -> None:
        super().__init__(file, path)
        self._begin = begin

    def look(self, offset: int) -> int:
        """See `Follower`."""
        return super().look(self._begin + offset)

    def readinto(self, buffer: memoryview) -> int:
        """See `Follower`."""
        # The decoder sets the position before each read.
        position = self.position
        self.position = self._begin + position
        try:
            return super().readinto(buffer)
        finally:
            self.position = position

    def only_zeros(self, offset: int) -> bool:
        """See `Follower`."""
        return super().only_zeros(self._begin + offset)

    def settle(self, offset: int) -> bool:
        """See `Follower`."""
        return super().settle(self._begin + offset)

    def is_stalled(self, offset: int) -> bool:
        """See `Follower`."""
        return super().is_stalled(self._begin + offset)

    def read_bytes(self, offset: int, size: int) -> memoryview:
        """See `Follower`."""
        return super().read_bytes(self._begin + offset, size)


def follow_from(path: str, deframer: Deframer, begin: int) -> StreamReader:
    """A reader that follows a file from an offset on, at which a frame begins. Its offsets count from there.

    Raises
    ------
    OSError
        The file cannot be opened.
    """
    file = io.FileIO(path, "rb")
    try:
        follower = _FollowerFrom(file, path, begin)
        arguments = {"readinto": follower.readinto, "error_takes_nothing": True, "follower": follower}
        return StreamReader(Endpoint(file, arguments, owned=True), deframer, on_error="skip")
    except BaseException:
        file.close()
        raise


def skip_to(reader: StreamReader, offset: int, messages: int) -> None:
    """Reads a followed stream up to an offset at which a frame begins, and before which there are so many messages."""
    # Frames that are no messages may stand before the offset: to read up to it would wait for the next message.
    while reader.offset < offset and reader.frames_read < messages and reader.read_message() is not None:
        pass


def open_when_certain(one: Input, source: Source) -> Opened:
    """Opens a file or journal as soon as it is certain what it is: an empty one when its first messages are there.

    Raises
    ------
    NotAStreamError
        The file had content from the beginning, and it is no stream; or it has grown large, and that is still not
        certain.
    OSError
        It cannot be read.
    """
    began_empty = False
    told = False
    while True:
        size = _size(one)
        if size or (source.checksum is not None and source.schema is not None):
            try:
                opened = source.open(Input(one.name, one.kind, size), on_error="resync")
                if opened.compression is not None:
                    opened.close()
                    raise OSError(
                        errno.EINVAL, f"a file that is compressed ({opened.compression}) cannot be followed", one.name
                    )
                return opened
            except NotAStreamError as error:
                if not began_empty or size > ENOUGH:
                    raise
                if not told:
                    complain(f"{one.name}: {error}; waiting for more")
                    told = True
        else:
            began_empty = True
        while _size(one) == size:
            time.sleep(PAUSE)


def _size(one: Input) -> int:
    if one.kind == "journal":
        with os.scandir(one.name) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name.endswith(".fs"))
    if one.kind == "remote":
        raise OSError(errno.EINVAL, "a URL cannot be followed", one.name)
    status = os.stat(one.name)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "only files, journals and pipes can be followed", one.name)
    return status.st_size


def is_empty_folder(path: Any) -> bool:
    """Whether a folder may become a journal."""
    return os.path.isdir(path) and not os.listdir(path)

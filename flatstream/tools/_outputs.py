"""The streams that a tool writes: new files, which get their names when they are complete."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from flatstream._endpoints import PathToOpen
from flatstream._files import check_new, give_name, open_partial, say_what_is_full
from flatstream.checksums import Checksum
from flatstream.framing import framer_for
from flatstream.reader import FrameBatch
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream.description import Description

__all__ = ["NewStream", "is_same_checksum"]

BUFFER_SIZE = 1 << 20


def is_same_checksum(one: Checksum | None, other: Checksum) -> bool:
    """Whether frames with one checksum are those with the other."""
    return one is not None and type(one) is type(other) and one.name == other.name


class NewStream:
    """A stream in a new file, which is called ``<path>.partial-<number of the process>`` until it is complete.

    A context manager: what is left without `finish` is no result, and is removed.

    Raises
    ------
    FileExistsError
        There is a file of this name, at the beginning or when it would get its name.
    """

    def __init__(self, path: str, checksum: Checksum, description: Description | None) -> None:
        self.rename(path)
        self.checksum = checksum
        self.frames = 0
        self.size = 0
        options: dict[str, Any] = {} if description is None else {"describe": description}

        def open_new(partial: str) -> StreamWriter:
            return StreamWriter(PathToOpen(partial, "xb"), framer_for(checksum), buffer_size=BUFFER_SIZE, **options)

        self.partial, self.writer = open_partial(path, open_new)

    def rename(self, path: str) -> None:
        """Says the name that the file is to get."""
        check_new(path)
        self.path = path

    def write(self, batch: FrameBatch, begin: int, end: int, *, as_they_are: bool) -> None:
        """Writes the messages of a batch from `begin` to `end`; their frames too if the format is the same."""
        if as_they_are and begin == 0 and end == len(batch):
            self.writer.write_frames(batch)
        else:
            self.writer.write_payloads(batch[begin:end])

    def write_payloads(self, payloads: list[memoryview]) -> None:
        """Writes messages, and empties the list."""
        if payloads:
            self.writer.write_payloads(payloads)
            payloads.clear()

    def finish(self) -> None:
        """Makes the file lasting, and gives it its name."""
        self.writer.sync()
        self.frames = self.writer.frames_written
        self.writer.close()
        self.size = os.stat(self.partial).st_size
        give_name(self.partial, self.path)

    def __enter__(self) -> NewStream:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        say_what_is_full(error, self.path)
        if self.writer.closed and not os.path.lexists(self.partial):
            return
        with contextlib.suppress(Exception):
            self.writer.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.partial)

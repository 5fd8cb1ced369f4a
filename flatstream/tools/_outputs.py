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
from flatstream.transforms.described import framer_with
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream.description import Description, Transform
    from flatstream.tools._sources import SourceStream
    from flatstream.tools.conversion._files import NewFile

__all__ = ["NewStream", "has_same_frames"]

BUFFER_SIZE = 1 << 20


def has_same_frames(source: SourceStream, checksum: Checksum) -> bool:
    """Whether the frames of a source are those of a new stream with this checksum, and can be passed on as they are."""
    one = source.checksum
    return one is not None and type(one) is type(checksum) and one.name == checksum.name and not source.is_transformed


def compressed_file(path: str) -> NewFile | None:
    """A new file that is compressed, if its name ends so, as ``.fs.gz``; None for a file as it is.

    Raises
    ------
    ValueError
        The name is that of a file of another format.
    FileExistsError, ImportError, OSError
        There is such a file; a package that compresses is missing; the file cannot be made.
    """
    if path.lower().endswith(".fs"):
        return None
    # Imported for other names alone: it takes its time.
    from flatstream.tools.conversion._files import NewFile
    from flatstream.tools.conversion._formats import FORMATS, format_of_name

    form, compression = format_of_name(path)
    if form not in (None, "fs"):
        raise ValueError(
            f"the new file is a stream, and {path!r:.200} is a name for {FORMATS[form].title}: choose one with .fs"
        )
    return NewFile(path, compression, sealed=True) if compression else None


class NewStream:
    """A stream in a new file, which is called ``<path>.partial-<number of the process>`` until it is complete.

    It is compressed if its name ends so, as ``.fs.gz``. A context manager: what is left without `finish` is no result,
    and is removed.

    Raises
    ------
    FileExistsError
        There is a file of this name, at the beginning or when it would get its name.
    ValueError
        Its name is that of a file of another format.
    """

    def __init__(
        self,
        path: str,
        checksum: Checksum,
        description: Description | None,
        transforms: tuple[Transform, ...] = (),
    ) -> None:
        self.rename(path)
        self.checksum = checksum
        framer = framer_with(framer_for(checksum), transforms)
        self.frames = 0
        self.size = 0
        options: dict[str, Any] = {} if description is None else {"describe": description}
        self.compressed = compressed_file(path)
        if self.compressed is not None:
            self.partial = self.compressed.partial
            sink = self.compressed.file
            self.writer = StreamWriter(sink, framer, buffer_size=BUFFER_SIZE, **options)
            return

        def open_new(partial: str) -> StreamWriter:
            return StreamWriter(PathToOpen(partial, "xb"), framer, buffer_size=BUFFER_SIZE, **options)

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
        self.frames = self.writer.frames_written
        if self.compressed is not None:
            self.writer.close()
            self.compressed.path = self.path
            self.size = self.compressed.finish() or 0
            return
        self.writer.sync()
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
        if self.compressed is not None:
            self.compressed.__exit__(kind, error, None)
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.partial)

"""`flatstream.salvage`: copies what is intact in a damaged stream to a new file."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flatstream._core.stream.decoder import DEFAULT_RESYNC_WINDOW
from flatstream._core.stream.frame_batch import FrameBatch
from flatstream._endpoints import PathToOpen, compression_of, is_path
from flatstream._files import check_new, give_name, open_partial, say_what_is_full
from flatstream._remote import is_url
from flatstream.checksums import Checksum, ChecksumType, Crc32c, as_checksum
from flatstream.description import Description
from flatstream.description.head import head_frame
from flatstream.detection import detect, other_checksum
from flatstream.errors import FlatStreamError, InvalidFrameError
from flatstream.framing import deframer_for, framer_for
from flatstream.reader import StreamReader
from flatstream.writer import StreamWriter

__all__ = ["SalvageReport", "salvage"]

# How many bytes are read at a time, and between two calls of `progress`.
CAPACITY = 1 << 20
PROGRESS_STEP = 16 << 20

# A length of any size may stand in a damaged frame. The longest header has 12 bytes.
MAX_LENGTH = 2**32 - 1
HEADER = 12
# How many ranges of lost bytes the repr of a report has.
MAX_SHOWN_RANGES = 10


class SalvageReport(NamedTuple):
    """The result of `salvage`. All offsets are those of the source, in bytes.

    Attributes
    ----------
    frames, size : int
        How many frames the new file has, with a description, and its size in bytes.
    lost_ranges : tuple of (int, int)
        Where the bytes that were not copied begin and end, in ascending order. Doubtful frames are in these ranges.
    lost_bytes : int
        How many bytes these are.
    doubtful_ranges : tuple of (int, int)
        Where each doubtful frame begins and ends in the source. A frame can lie inside of another.
    doubtful : str or None
        The path of the file with the payloads of the doubtful frames; None if there are none.
    looks_like : str or None
        If no frame was found: what the source seems to be, as in `RecoveryReport`; otherwise None.
    """

    frames: int
    size: int
    lost_ranges: tuple[tuple[int, int], ...]
    lost_bytes: int
    doubtful_ranges: tuple[tuple[int, int], ...]
    doubtful: str | None
    looks_like: str | None = None

    def __repr__(self) -> str:
        values = (_shortened(value) if type(value) is tuple else repr(value) for value in self)
        return f"SalvageReport({', '.join(f'{name}={text}' for name, text in zip(self._fields, values, strict=True))})"


def _shortened(ranges: tuple[tuple[int, int], ...]) -> str:
    """The repr of a tuple, which can have a million ranges."""
    if len(ranges) <= MAX_SHOWN_RANGES:
        return repr(ranges)
    return f"({', '.join(map(repr, ranges[:MAX_SHOWN_RANGES]))}, ... {len(ranges) - MAX_SHOWN_RANGES} more)"


def salvage(
    source: Any,
    out: str | os.PathLike[str],
    checksum: Checksum | ChecksumType | str | None = None,
    *,
    doubtful: str | os.PathLike[str] | None = None,
    allow_empty: bool | None = None,
    resync_window: int = DEFAULT_RESYNC_WINDOW,
    progress: Callable[[int, int], object] | None = None,
) -> SalvageReport:
    """Copies the intact frames of a damaged stream to a new file. The source is not changed.

    If the stream has a description, and it is intact, both new files begin with it.

    Parameters
    ----------
    source : path or bytes-like object
        The damaged stream.
    out : path
        The new file. It must not exist. Until the result is complete and was read back, it is called
        ``<out>.partial-<number of the process>``.
    checksum : Checksum, ChecksumType or its name, optional
        The checksum that the stream was written with, and which the new file has.
    doubtful : path, optional
        The file for doubtful frames, ``<out>.doubtful`` by default. It must not exist either, and is only made if there
        are such frames. It has the same format, so that it can be read; their checksums are calculated anew.
    allow_empty, resync_window
        See `StreamReader`.
    progress : callable, optional
        ``progress(offset, size)`` gets the offset reached in the source and its size: at the end of reading, and for a
        path after every 16 MiB.

    Returns
    -------
    SalvageReport

    Raises
    ------
    FileExistsError
        `out` or `doubtful` exists.
    OSError
        The source or a file failed, or what was read back differs from what was written. There is no new file then.
    InvalidFrameError
        The source is a stream with another checksum.
    TypeError, ValueError
        An argument is wrong.

    Notes
    -----
    Doubtful are whole frames whose payload does not match its checksum, if intact frames or the ends of the stream are
    on both sides, and intact frames in such payloads. Without a checksum or with one of fewer than 4 bytes, so are the
    frames of a run between two lost ranges that is too short to be evidence: of fewer than 8 frames without a checksum,
    4 with 1 byte, 2 with 2 or 3 bytes.

    Examples
    --------
    >>> import tempfile, os, io
    >>> sink = io.BytesIO()
    >>> with StreamWriter(sink, "crc32") as writer:
    ...     writer.write_payloads([b"one", b"two", b"three"])
    >>> damaged = bytearray(sink.getvalue())
    >>> damaged[11 + 8] ^= 1
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = salvage(bytes(damaged), os.path.join(folder, "new.fs"), "crc32")
    >>> report.frames, report.lost_ranges, len(report.doubtful_ranges)
    (2, ((11, 22),), 1)
    """
    algorithm = as_checksum(checksum)
    if not is_path(source):
        try:
            source = memoryview(source)
        except TypeError:
            raise TypeError(f"source must be a path or a bytes-like object, got {source!r:.100}") from None
        source = source if source.ndim == 1 and source.format == "B" else source.cast("B")
    elif is_url(source):
        raise ValueError(f"only files of this computer can be salvaged, got {source!r:.200}: copy it first")
    elif (found := compression_of(source)) is not None:
        raise InvalidFrameError(
            f"the source is compressed ({found}), decompress it before it is salvaged: {source!r:.200}",
            offset=0,
            frame=0,
        )
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    target = os.fspath(out)
    doubtful_target = f"{target}.doubtful" if doubtful is None else os.fspath(doubtful)
    with contextlib.ExitStack() as stack:
        watched: memoryview | _Watched
        if isinstance(source, memoryview):
            watched, size = source, len(source)
        else:
            watched = stack.enter_context(_Watched(source, progress))
            size = watched.size
        _check_checksum(watched, algorithm)
        reader = stack.enter_context(
            StreamReader(
                watched,
                deframer_for(algorithm),
                capacity=CAPACITY,
                on_error="resync",
                resync_window=resync_window,
                allow_empty=allow_empty,
            )
        )
        good = stack.enter_context(_NewFile(target, algorithm))
        rest = stack.enter_context(_NewFile(doubtful_target, algorithm))
        copy = _Copy(reader, source, algorithm, good, rest)
        copy.run()
        if progress is not None:
            progress(reader.offset, size)
        # Both files are complete before the first gets its name.
        good.finish()
        if copy.doubtful_ranges:
            rest.finish()
            rest.give_name()
        good.give_name()
    lost = tuple(copy.lost_ranges)
    return SalvageReport(
        good.frames,
        good.size,
        lost,
        sum(end - begin for begin, end in lost),
        tuple(copy.doubtful_ranges),
        doubtful_target if copy.doubtful_ranges else None,
        None if good.frames else detect(source).looks_like,
    )


def _check_checksum(source: memoryview | _Watched, checksum: Checksum) -> None:
    """Raises InvalidFrameError if the source is a stream with another checksum. Leaves a file at its beginning."""
    kind = other_checksum(source, deframer_for(checksum))
    if not isinstance(source, memoryview):
        source.seek(0)
    if kind is not None:
        raise InvalidFrameError(
            f"the source is a stream with the checksum {kind.value!r}, and not with {checksum.name}: "
            "nothing was copied",
            offset=0,
            frame=0,
        )


class _Watched(io.FileIO):
    """The source, which tells how far it was read."""

    def __init__(self, path: Any, progress: Callable[[int, int], object] | None) -> None:
        super().__init__(path, "rb")
        self.size = os.fstat(self.fileno()).st_size
        self.progress = progress
        self.told = 0

    def readinto(self, buffer: Any) -> int | None:
        count = super().readinto(buffer)
        if self.progress is not None and (here := self.tell()) - self.told >= PROGRESS_STEP:
            self.told = here
            self.progress(here, self.size)
        return count


class _Copy:
    """One pass over the source."""

    def __init__(self, reader: StreamReader, source: Any, checksum: Checksum, good: _NewFile, rest: _NewFile) -> None:
        self.reader = reader
        self.source = source
        self.good = good
        self.rest = rest
        self.checksum = checksum
        self.inner_deframer = deframer_for(checksum)
        self.deframer = self.inner_deframer.with_max_frame_len(MAX_LENGTH)
        self.enough = {0: 8, 1: 4, 2: 2, 3: 2}.get(checksum.size, 1)
        self.lost_ranges: list[tuple[int, int]] = []
        self.doubtful_ranges: list[tuple[int, int]] = []
        # The frames of a run behind damage, until they are enough; None if they are.
        self.run_begin: list[FrameBatch] | None = None

    def run(self) -> None:
        description = self.reader.description
        if description is not None and description.checksum is not None:
            # It may say another checksum than that of its frame.
            description = description.with_checksum(self.checksum)
        self.good.description = self.rest.description = description
        for batch in self.reader.batches(max_bytes=PROGRESS_STEP):
            self.skip(batch.lost_ranges)
            self.take(batch)
        known = self.lost_ranges[-1][1] if self.lost_ranges else 0
        self.skip([found for found in self.reader.lost_ranges if found[0] >= known])
        # Frames that lead to the end of the stream are evidence, however few they are.
        for batch in self.run_begin or []:
            self.good.write_frames(batch)

    def take(self, batch: FrameBatch) -> None:
        """Passes the frames of a batch on, or keeps them while they are too few to be evidence."""
        if self.run_begin is None:
            self.good.write_frames(batch)
            return
        self.run_begin.append(batch)
        if sum(map(len, self.run_begin)) >= self.enough:
            for kept in self.run_begin:
                self.good.write_frames(kept)
            self.run_begin = None

    def skip(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Notes ranges that were lost, and puts apart what is doubtful: in them, and between them and the last."""
        if not ranges:
            return
        for batch in self.run_begin or []:
            for payload, start in zip(batch, batch.offsets, strict=True):
                # From the end of the frame before to the end of this one.
                begin = self.lost_ranges[-1][1]
                self.add_doubtful(begin, batch.stream_offset + start + len(payload), payload)
                self.add_lost(*self.doubtful_ranges[-1])
        for begin, end in ranges:
            self.add_lost(begin, end)
            self.keep_refused(begin, end)
        self.run_begin = [] if self.enough > 1 else None

    def add_lost(self, begin: int, end: int) -> None:
        if self.lost_ranges and self.lost_ranges[-1][1] == begin:
            begin = self.lost_ranges.pop()[0]
        self.lost_ranges.append((begin, end))

    def add_doubtful(self, begin: int, end: int, payload: Any) -> None:
        self.doubtful_ranges.append((begin, end))
        self.rest.write_payload(payload)

    def keep_refused(self, begin: int, end: int) -> None:
        """Puts the frames of a lost range apart, if frame follows frame from its begin exactly to its end.

        Also those in their payloads: sectors that were swapped bring other frames there. (Otherwise, the reader has
        searched the range.)
        """
        frames = []
        at = begin
        while at < end:
            header = self.bytes_at(at, HEADER)
            span = self.deframer.locate(header) if header else 0
            if isinstance(span, int):
                return
            payload_start, payload_end, frame_end = span
            if payload_end == payload_start or at + frame_end > end:
                return
            frames.append((at, at + payload_start, at + frame_end))
            at += frame_end
        for first, payload_start, last in frames:
            payload = self.bytes_at(payload_start, last - payload_start)
            self.add_doubtful(first, last, payload)
            with StreamReader(payload, self.inner_deframer, on_error="resync") as reader:
                for inner in reader:
                    offset = payload_start + reader.message_offset
                    self.add_doubtful(offset, offset + payload_start - first + len(inner), inner)

    def bytes_at(self, offset: int, size: int) -> Any:
        if isinstance(self.source, memoryview):
            return self.source[offset : offset + size]
        # pread leaves the reader's position in the file as it is.
        pieces = []
        while size and (piece := os.pread(self.reader.source.fileno(), size, offset)):
            pieces.append(piece)
            offset += len(piece)
            size -= len(piece)
        return b"".join(pieces)


class _NewFile:
    """A file of frames that gets its name when it is complete. It is made with the first frame, or by `finish`."""

    def __init__(self, path: str, checksum: Checksum) -> None:
        check_new(path)
        self.path = path
        self.partial = ""
        self.checksum = checksum
        self.description: Description | None = None
        self.writer: StreamWriter | None = None
        self.by_payload = False
        self.crc = 0
        self.frames = 0
        self.size = 0

    def open(self) -> StreamWriter:
        if self.writer is None:
            self.partial, writer = open_partial(self.path, self.open_new)
            self.writer = writer
        return self.writer

    def open_new(self, path: str) -> StreamWriter:
        writer = StreamWriter(PathToOpen(path, "xb"), framer_for(self.checksum), buffer_size=CAPACITY)
        if self.description is not None:
            # As it is: a writer that is given one completes it.
            writer._put_head(head_frame(self.description, writer.framer))
        return writer

    def write_frames(self, batch: FrameBatch) -> None:
        self.open().write_frames(batch)
        self.crc = Crc32c().extend(self.crc, batch.buffer)

    def write_payload(self, payload: Any) -> None:
        self.open().write_payload(payload)
        self.crc = Crc32c().extend(self.crc, payload)
        self.by_payload = True

    def finish(self) -> None:
        """Makes the file durable, and reads it back."""
        writer = self.open()
        writer.sync()
        described = self.description is not None
        self.frames = writer.frames_written + described
        writer.close()
        self.size = os.stat(self.partial).st_size
        crc = 0
        with StreamReader(self.partial, deframer_for(self.checksum), capacity=CAPACITY) as reader:
            try:
                if not described:
                    # The first frame may look like a description.
                    reader._deliver_description()
                elif reader.description != self.description:
                    raise OSError(errno.EIO, "the description that was read back differs", self.partial)
                for batch in reader.batches():
                    for part in batch if self.by_payload else [batch.buffer]:
                        crc = Crc32c().extend(crc, part)
            except FlatStreamError as error:
                raise OSError(errno.EIO, f"the new file cannot be read back: {error}", self.partial) from error
            found = (reader.frames_read + described, reader.offset, crc)
        if found != (self.frames, self.size, self.crc):
            raise OSError(errno.EIO, "what was read back from the new file is not what was written", self.partial)

    def give_name(self) -> None:
        """Gives the file its name, unless another file has it by now."""
        give_name(self.partial, self.path)

    def __enter__(self) -> _NewFile:
        return self

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if self.writer is None:
            return
        say_what_is_full(error, self.path)
        with contextlib.suppress(Exception):
            self.writer.close()
        # What is left after an error is no result.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.partial)

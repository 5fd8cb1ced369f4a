"""Building the index of a file that is there: `build_index`, and `FileIndexer`, which does it step by step."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

from flatstream._core.base.pickling import fail_to_pickle
from flatstream._core.column_reader.blocks import BlockBuilder
from flatstream._core.stream.decoder import Decoder
from flatstream._index_hook import SUFFIX
from flatstream._lock import who_writes
from flatstream._open import open_found
from flatstream._ranges import RangeFile, open_ranges
from flatstream._remote import is_url
from flatstream.checksums import Checksum, ChecksumType
from flatstream.columns.stream import make_plan
from flatstream.description.choice import choose_table
from flatstream.description.description import checksum_name
from flatstream.errors import FlatStreamError, UnexpectedEofError
from flatstream.framing import Deframer, as_deframer, checksum_of
from flatstream.index._fields import IndexedField, choose_fields, identifier_of, others_of
from flatstream.index._file import IndexFile, same_content
from flatstream.index._format import MAX_HASHED_FIRST, Fingerprint, Head, fingerprint_of_first
from flatstream.index.reading import UNSEEKABLE, find_last, find_wrong, first_frame_of, who_else_writes, why_unseekable
from flatstream.reader import StreamReader
from flatstream.transforms.described import is_encrypted, undoing

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.schema import Table

__all__ = ["FileIndexer", "IndexReport", "build_index"]

# How much is read and decoded at once. It stays in the cache of a processor (time_build_index of
# asv_benchmarks/indexing.py).
CHUNK = 256 << 10

# How many frames are found at once.
MAX_FRAMES = 8192

# Blocks are written when there are so many, which is before there are 256.
WRITE_FROM = 224


@dataclass(frozen=True)
class IndexReport:
    """What `build_index` did.

    Attributes
    ----------
    path : str
        The index.
    file : str
        The file with the stream.
    action : {"created", "continued", "replaced", "unchanged"}
        Whether there was none; there was one, and what was behind its end was added; there was one that did not fit, or
        of other fields; or it had everything already.
    replaced_because : str or None
        Why the index that was there did not fit.
    fields : tuple of IndexedField
        The fields of which the blocks have ranges.
    table : str
        The table of the messages.
    blocks, frames, rows : int
        How many blocks there are in all; how many frames they have, and messages of the table.
    covered : int
        Where the last block ends, in bytes of the stream.
    stream_size : int
        How many bytes of the stream were looked at.
    gaps : tuple of (int, int)
        The ranges before `covered` that no block has, because of damage.
    size : int
        How many bytes the index has.
    stopped_because : str or None
        Of a writer: why the index ends although the file went on; None if it goes on. See `flatstream.open`.
    """

    path: str
    file: str
    action: Literal["created", "continued", "replaced", "unchanged"]
    replaced_because: str | None
    fields: tuple[IndexedField, ...]
    table: str
    blocks: int
    frames: int
    rows: int
    covered: int
    stream_size: int
    gaps: tuple[tuple[int, int], ...] = ()
    size: int = 0
    stopped_because: str | None = None


@dataclass(frozen=True)
class _Stream:
    """What is known of a stream before its messages are read."""

    description: Description | None
    deframer: Deframer
    checksum: str
    # The header of a frame.
    head_size: int
    begin: int


def build_index(
    path: str | os.PathLike[str],
    fields: Iterable[str] | None = None,
    *,
    table: Table | str | None = None,
    checksum: Checksum | ChecksumType | Deframer | str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> IndexReport:
    """Builds the index of a stream, ``<path>.idx``, or brings it up to date.

    An index that fits the file and has the same fields is continued behind its end. Any other is replaced at once when
    the head of the new one is written: it is never seen half.

    Parameters
    ----------
    path : str or os.PathLike
        The file. It may be sealed (``.fs.zst``), and may be one that is written at the moment: what it has now gets an
        index.
    fields : iterable of str, optional
        The paths of the fields of which each block has the range: numbers, bools and enums, in the table, or in tables
        and structs inside it. By default the time field of the description.
    table : Table or str, optional
        The table of the messages, or the name of one of several that the description names. By default the only one.
    checksum : Checksum, ChecksumType, Deframer or str, optional
        By default the one that the file seems to have, see `flatstream.open`.
    out : str or os.PathLike, optional
        Another path for the index; queries do not find it there.
    progress : callable, optional
        Called with the number of bytes done and of all bytes (-1 if that is not known) from time to time.

    Returns
    -------
    IndexReport

    Raises
    ------
    OSError
        A file cannot be read or written. EBUSY: the index is being written by somebody else.
    FileExistsError
        At the path of the index there is a file that is none.
    ValueError
        There is no time field, and `fields` says none; the stream is encrypted, so that ranges would tell what is
        secret; the path is a URL; the file can be read from its beginning only, as one of gzip, so that no query would
        use an index.
    KeyError, TypeError
        The table has no such field, or it is no number; no table is known.
    InvalidFrameError, FlatbufferError
        The checksum of the file is not certain; the description is damaged.

    Notes
    -----
    Building takes about as long as reading these columns. Where the stream is damaged, the blocks have a gap, which
    every query reads.

    Examples
    --------
    >>> import os, tempfile
    >>> import flatstream
    >>> table = flatstream.Schema.from_file("examples/telemetry.bfbs").root
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = os.path.join(folder.name, "events.fs")
    >>> with flatstream.open(path, "w", describe=table, checksum="xxhash64") as writer:
    ...     count = flatstream.RecordWriter(writer, table).write_records({"wall_time_ns": i} for i in range(5000))
    >>> report = flatstream.build_index(path)
    >>> report.action, report.rows, [field.path for field in report.fields]
    ('created', 5000, ['wall_time_ns'])
    >>> flatstream.build_index(path).action
    'unchanged'
    >>> folder.cleanup()
    """
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    with FileIndexer(path, fields, table=table, checksum=checksum, out=out) as indexer:
        size = indexer.stream_size
        while indexer.advance(None if size < 0 else size, 16 << 20):
            if progress is not None:
                progress(indexer.position, size)
        indexer.finish()
        if progress is not None:
            progress(indexer.position, size)
        return indexer.report()


class FileIndexer:
    """Builds the index of a file step by step, also of one that grows.

    Parameters
    ----------
    path, fields, table, checksum, out
        See `build_index`, also for the errors.

    Attributes
    ----------
    covered : int
        Where the last block that is written ends, in stream offsets.
    position : int
        Where reading goes on.
    index_path : str
        The index.

    Notes
    -----
    It opens the index at once, and locks it. One thread at a time may use it. After any error it can be closed, and the
    index has the blocks that were written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fields: Iterable[str] | None = None,
        *,
        table: Table | str | None = None,
        checksum: Checksum | ChecksumType | Deframer | str | None = None,
        out: str | os.PathLike[str] | None = None,
    ) -> None:
        self._closed = True
        for name, value in (("path", path), ("out", out)):
            if not isinstance(value, (str, os.PathLike)) and not (name == "out" and value is None):
                raise TypeError(f"{name} must be a str or os.PathLike, got {value!r:.100}")
        if is_url(path):
            raise ValueError(f"the index of a URL cannot be written: build it where the file is: {path!r:.200}")
        self._path = os.fsdecode(path)
        self.index_path = self._path + SUFFIX if out is None else os.fsdecode(out)
        if os.path.realpath(self.index_path) == os.path.realpath(self._path):
            raise ValueError(f"the index cannot be the file itself: {self._path!r:.200}")
        if not stat.S_ISREG(os.stat(self._path).st_mode):
            raise ValueError(f"an index is about a regular file, which this is not: {self._path!r:.200}")
        known = _look_at(self._path, checksum)
        chosen, _ = choose_table(known.description, table, "build_index")
        self._table: Table = chosen
        self._fields = choose_fields(chosen, fields, known.description)
        self._known = known
        self._ranges = open_ranges(self._path)
        self._file: IndexFile | None = None
        self._closed = False
        try:
            if not self._ranges.can_seek:
                raise ValueError(f"{self._path:.200}: {UNSEEKABLE}: {why_unseekable(self._ranges.compression)}")
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Opens the index, and finds out where to go on."""
        known = self._known
        head = Head(
            known.checksum,
            self._table.name,
            identifier_of(self._table),
            others_of(self._table),
            tuple(self._fields),
            _first_frame(self._ranges, known.head_size),
            known.begin,
        )
        self._file = IndexFile(self.index_path, os.stat(self._path))
        self.replaced_because: str | None = None
        self._frames = self._rows = self._blocks = 0
        self.position, number = known.begin, 0
        parsed = self._file.parsed
        reason = self._misfit(head) if parsed is not None else None
        if parsed is not None and reason is None:
            entries = parsed.entries
            count = find_last(entries, self._ranges)
            if entries and not count and entries[0].end <= self._ranges.size:
                reason = "it is of another stream: the frames where it ends are others"
            elif (wrong := find_wrong(head, entries[:count])) is not None:
                # Queries leave it aside, and would do so whatever is added to it.
                reason = wrong
            else:
                self._file.cut(entries[count - 1].index_end if count else parsed.head_end)
                self._entries = [(entry.begin, entry.end) for entry in entries[:count]]
                if count:
                    last = entries[count - 1]
                    self.position, number = last.end, last.first_frame + last.frames
                    self._frames = sum(entry.frames for entry in entries[:count])
                    self._rows = sum(entry.rows for entry in entries[:count])
                    self._blocks = sum(entry.blocks for entry in entries[:count])
        if parsed is None or reason is not None:
            self.replaced_because = reason
            self._entries = []
            self._file.replace(head)
        self._was_new = parsed is None
        self._added = 0
        self.covered = self.position if self._entries else 0
        others = others_of(self._table)
        self._builder = BlockBuilder(
            make_plan(self._table, [each.path for each in self._fields], "number"),
            excluded=None if others is None else "".join(others).encode("latin-1"),
            offset=self.position,
            number=number,
        )
        self._number = number
        self._torn = False
        # What reads on from `position`, and where it began.
        self._decoder: Decoder | None = None
        self._decoder_begin = self.position, number
        self._source = _From(self._ranges, self.position, None)
        # Whether it searches for frames behind damage, and where it has found the last one.
        self._searches = False
        self._found_at = 0

    def _misfit(self, head: Head) -> str | None:
        """Why the index that is there does not fit; None if it does."""
        assert self._file is not None
        assert self._file.parsed is not None
        found = self._file.parsed.head
        if found is None:
            return self._file.parsed.problem
        data = self._ranges.status
        if data is not None and (who := who_else_writes(self._file.status, data)) is not None:
            return who
        if not same_content(found, head):
            if first_frame_of(self._ranges, found.first_frame.size) != found.first_frame:
                return "it is of another stream: the first frame is another"
            return "it has other fields, or is about other messages"
        return None

    @property
    def stream_size(self) -> int:
        """How many bytes the stream had when it was opened; -1 if only reading all of it tells."""
        return self._ranges.size

    @property
    def entries(self) -> list[tuple[int, int]]:
        """Where the blocks of each message begin and end."""
        return list(self._entries)

    @property
    def next_number(self) -> int:
        """The number of the message at `position`."""
        return self._number

    def advance(self, end: int | None = None, limit: int = 1 << 20) -> bool:
        """Adds whole frames of the stream up to offset `end`; by default, up to where it ended when it was opened.

        Parameters
        ----------
        end : int, optional
            Where to stop. The file may have grown to there since.
        limit : int
            About how many bytes to read at most.

        Returns
        -------
        bool
            Whether there is more before `end`. What is torn there is left for later.

        Raises
        ------
        OSError
            The file cannot be read, or the index cannot be written.
        """
        file = self._check_open()
        stop = self._stop(end)
        most = self.position + limit
        while self.position < most and (stop is None or self.position < stop):
            if not self._add_some(stop):
                self._torn = True
                break
            if self._builder.waiting_blocks >= WRITE_FROM:
                self._write(file, with_rest=False)
        return not self._torn and (stop is None or self.position < stop)

    def finish(self, end: int | None = None) -> None:
        """Adds all that there is up to `end`, and writes the last blocks."""
        file = self._check_open()
        self._torn = False
        while self.advance(end, 16 << 20):
            pass
        self._write(file, with_rest=True)

    def _stop(self, end: int | None) -> int | None:
        size = self._ranges.size
        if end is None:
            return None if size < 0 else size
        if end > size >= 0 and self._ranges.compression is None:
            self._open_again()
            size = self._ranges.size
        if self._stopped_at != end:
            self._torn = False
            self._stopped_at = end
        return min(end, size) if size >= 0 else end

    _stopped_at: int | None = None

    def _open_again(self) -> None:
        """Opens the file again, which has grown; raises if another one has taken its place."""
        again = open_ranges(self._path)
        before, now = self._ranges.status, again.status
        if before is None or now is None or (before.st_dev, before.st_ino) != (now.st_dev, now.st_ino):
            again.close()
            raise OSError(errno.ESTALE, "another file has taken the place of the one that gets an index", self._path)
        self._ranges.close()
        self._ranges = again
        self._decoder = None

    def _add_some(self, stop: int | None) -> bool:
        """Adds the frames of one read; False if the stream ends, or ends inside of a frame."""
        if self._decoder is not None and self._searches and self.position - self._found_at >= CHUNK:
            self._decoder = None
        if self._decoder is None:
            self._start("raise", stop)
        try:
            if self._add_batch(stop):
                return True
            self._decoder = None
            return False
        except FlatStreamError as error:
            # Where the stream ends inside of a frame, the length in its header may be wrong, too.
            if isinstance(error, UnexpectedEofError) and self._is_being_written():
                self._decoder = None
                return False
        # As a reader with on_error="resync" goes on. It is kept for a while: damage seldom comes alone.
        self._start("resync", stop)
        found = self._add_batch(stop)
        self._found_at = self.position
        if not found:
            self._decoder = None
        return found

    def _start(self, on_error: Literal["raise", "resync"], stop: int | None) -> None:
        self._source = _From(self._ranges, self.position, stop)
        self._searches = on_error == "resync"
        self._decoder = Decoder(
            self._known.deframer, CHUNK, readinto=self._source.readinto, on_error=on_error, allow_empty=False
        )
        self._decoder._keep_stored()
        self._decoder_begin = self.position, self._number

    def _add_batch(self, stop: int | None) -> bool:
        """Adds the next frames of the decoder; False at its end."""
        decoder = self._decoder
        assert decoder is not None
        self._source.stop = stop
        offset, number = self._decoder_begin
        lost = decoder.skipped
        batch = decoder.read_batch(MAX_FRAMES, CHUNK)
        if batch is None:
            return False
        self._builder.add(batch, number + decoder.frames_read + decoder._frames_refused - len(batch), offset)
        # If the batch lives when the decoder reads on, that needs other memory.
        del batch
        self.position, self._number = self._builder.seen_to
        if decoder.skipped != lost:
            self._found_at = self.position
        return True

    def _is_being_written(self) -> bool:
        try:
            return self._ranges.compression is None and who_writes(self._path) is not None
        except OSError:
            return False

    def _write(self, file: IndexFile, *, with_rest: bool) -> None:
        for run in self._builder.take(with_rest):
            entry = file.write_blocks(run, self._fields)
            self._entries.append((entry.begin, entry.end))
            self._blocks += entry.blocks
            self._frames += entry.frames
            self._rows += entry.rows
            self._added += 1
            self.covered = entry.end
        file.flush()

    def report(self) -> IndexReport:
        """What was done so far."""
        file = self._check_open()
        gaps = []
        behind = self._known.begin
        for begin, end in self._entries:
            if begin > behind:
                gaps.append((behind, begin))
            behind = end
        action: Literal["created", "continued", "replaced", "unchanged"] = "continued" if self._added else "unchanged"
        if self._was_new:
            action = "created"
        elif self.replaced_because is not None:
            action = "replaced"
        size = self._ranges.size
        return IndexReport(
            self.index_path,
            self._path,
            action,
            self.replaced_because,
            tuple(self._fields),
            self._table.name,
            self._blocks,
            self._frames,
            self._rows,
            self.covered,
            self.position if size < 0 else size,
            tuple(gaps),
            file.size,
        )

    def _check_open(self) -> IndexFile:
        if self._closed or self._file is None:
            raise ValueError("this FileIndexer is closed")
        return self._file

    def close(self) -> None:
        """Closes the files. Blocks that were not written are not in the index. A second call does nothing."""
        self._closed = True
        try:
            if (file := getattr(self, "_file", None)) is not None:
                self._file = None
                file.close()
        finally:
            if (ranges := getattr(self, "_ranges", None)) is not None:
                ranges.close()

    def __enter__(self) -> FileIndexer:
        self._check_open()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        fail_to_pickle(self)

    def __repr__(self) -> str:
        return f"<FileIndexer of {self._path!r:.200}, {self.covered} bytes covered>"


class _From:
    """Reads a RangeFile from an offset on."""

    def __init__(self, ranges: RangeFile, offset: int, stop: int | None) -> None:
        self._ranges = ranges
        self._offset = offset
        self.stop = stop

    def readinto(self, buffer: memoryview) -> int:
        size = len(buffer) if self.stop is None else min(len(buffer), self.stop - self._offset)
        taken = self._ranges.read_into(self._offset, buffer[:size]) if size > 0 else 0
        self._offset += taken
        return taken


def _look_at(path: str, checksum: Checksum | ChecksumType | Deframer | str | None) -> _Stream:
    """Finds out how a stream is read."""
    reader = open_found(path, {}) if checksum is None else StreamReader(path, checksum)
    with reader:
        description = reader.description
        deframer = reader.deframer
    if is_encrypted(description):
        raise ValueError(
            f"the stream is encrypted, and an index would tell the range of its fields to anyone: {path!r:.200}"
        )
    algorithm = checksum_of(deframer)
    if algorithm is None:
        raise ValueError(
            f"an index is about frames with a header that is known, and not about those of {deframer!r:.100}"
        )
    # Empty frames have no message, and zeros at the end of a file look like them.
    if isinstance(checksum, Deframer):
        deframer = as_deframer(deframer, allow_empty=False)
    else:
        undo = undoing(as_deframer(algorithm), allow_empty=False)
        deframer = undo(description) or as_deframer(algorithm, allow_empty=False)
    head_size = 4 + algorithm.size
    begin = 0 if description is None else head_size + len(description.to_bytes())
    return _Stream(description, deframer, checksum_name(algorithm), head_size, begin)


def _first_frame(ranges: RangeFile, head_size: int) -> Fingerprint:
    """The fingerprint of a stream's first frame; of no bytes for a stream that has none."""
    header = ranges.read_at(0, head_size)
    if len(header) < head_size:
        return Fingerprint(0, 0)
    size = head_size + int.from_bytes(header[:4], "little")
    found = ranges.read_at(0, min(size, MAX_HASHED_FIRST))
    if len(found) < min(size, MAX_HASHED_FIRST):
        return Fingerprint(0, 0)
    return Fingerprint(size, fingerprint_of_first(found).hash)

"""`index` and `check_index`: building indexes of files and journals, and comparing them with what they are about."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from flatstream._endpoints import Source
from flatstream._index_hook import SUFFIX
from flatstream._ranges import RangeFile, open_ranges, ranges_of
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description.choice import described_tables
from flatstream.framing import as_deframer
from flatstream.index import FileIndex, FileIndexer, IndexReport, UnusableIndex, load_index
from flatstream.index.reading import UNSEEKABLE, why_unseekable
from flatstream.reader import StreamReader
from flatstream.tools.inputs import Input, Opened, UnreadableError, only_input, pick_table

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.journal._layout import Segment
    from flatstream.schema import Schema, Table

__all__ = ["IndexCheck", "IndexCheckReport", "IndexingReport", "LeftOut", "check_index", "index"]

# How many bytes are read between two calls of `progress`.
STEP = 16 << 20

# How many frames and rows are compared at a time.
FRAMES = 65_536

# The column with the numbers of frames. No field has this name.
NUMBERS = "number of frame"

# How many wrong blocks are told of one index.
MOST_TOLD = 10


@dataclass(frozen=True)
class LeftOut:
    """A file or segment that has got no index, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class IndexingReport:
    """The result of `index`.

    Attributes
    ----------
    path : str
        The file or journal.
    indexes : tuple of IndexReport
        What was done for the file, or for each segment of the journal.
    left_out : tuple of LeftOut
        What has got no index.
    is_journal : bool
        Whether it is a journal.
    dropped : tuple of str
        The fields that an index had until now, and has no longer, because `fields` does not name them.
    """

    path: str
    indexes: tuple[IndexReport, ...]
    left_out: tuple[LeftOut, ...] = ()
    is_journal: bool = False
    dropped: tuple[str, ...] = ()

    @property
    def blocks(self) -> int:
        """How many blocks there are in all."""
        return sum(one.blocks for one in self.indexes)

    @property
    def size(self) -> int:
        """How many bytes the indexes have."""
        return sum(one.size for one in self.indexes)

    @property
    def stream_size(self) -> int:
        """How many bytes the streams have that the indexes are about."""
        return sum(one.stream_size for one in self.indexes)

    @property
    def lost_bytes(self) -> int:
        """How many bytes before the ends of the indexes are in no block: what is damaged, and blocks before it that are
        too small.
        """
        return sum(end - begin for one in self.indexes for begin, end in one.gaps)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        content: dict[str, Any] = {"path": self.path, "journal": self.is_journal}
        content |= {name: getattr(self, name) for name in ("blocks", "size", "stream_size", "lost_bytes")}
        content["dropped"] = list(self.dropped)
        content["indexes"] = [asdict(one) for one in self.indexes]
        content["left_out"] = [asdict(one) for one in self.left_out]
        return content


@dataclass(frozen=True)
class IndexCheck:
    """What `check_index` found of one index.

    Attributes
    ----------
    path : str
        The file or segment.
    index : str or None
        The path of the index.
    state : {"fits", "none", "ignored", "wrong"}
        Each block has the frames, and no message has a value outside of the range, that the index says; there is none,
        or none that could be used, because the file can be read from its beginning only; readers leave it aside; or
        queries that use it would miss messages.
    reason : str or None
        Why there can be none, why it is left aside, or what is wrong first.
    problems : tuple of str
        What is wrong, of the first blocks.
    wrong : int
        How many things are wrong.
    fields : tuple of str
        The paths of its fields.
    blocks, covered, stream_size : int
        How many blocks it has, where the last one ends, and how many bytes the stream has.
    intact_end : int
        Where the last intact frame ends, if it was compared; what is behind `covered` has no index yet.
    """

    path: str
    index: str | None
    state: Literal["fits", "none", "ignored", "wrong"]
    reason: str | None = None
    problems: tuple[str, ...] = ()
    wrong: int = 0
    fields: tuple[str, ...] = ()
    blocks: int = 0
    covered: int = 0
    stream_size: int = 0
    intact_end: int = 0


@dataclass(frozen=True)
class IndexCheckReport:
    """The result of `check_index`.

    Attributes
    ----------
    path : str
        The file or journal.
    checks : tuple of IndexCheck
        One for the file, or for each segment of the journal.
    is_journal : bool
        Whether it is a journal.
    """

    path: str
    checks: tuple[IndexCheck, ...]
    is_journal: bool = False

    def count(self, state: str) -> int:
        """How many indexes have this state."""
        return sum(one.state == state for one in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return {"path": self.path, "journal": self.is_journal, "checks": [asdict(one) for one in self.checks]}


def index(
    source: str | os.PathLike[str] | Input,
    fields: Iterable[str] | None = None,
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    schema: Schema | str | os.PathLike[str] | None = None,
    table: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> IndexingReport:
    """Builds the index of a file, or of each segment of a journal, or brings it up to date. See `build_index`.

    Parameters
    ----------
    source : path or Input
        A file or a journal.
    fields : iterable of str, optional
        The paths of the fields; by default those that the index has already, or the field of the time.
    checksum : Checksum, ChecksumType or str, optional
        By default it is found.
    schema : Schema or path, optional
        The schema of the messages, instead of the one that the stream describes.
    table : str, optional
        The name or file identifier of their table.
    progress : callable, optional
        ``progress(offset, size)`` gets how far reading is.

    Returns
    -------
    IndexingReport
        An index that a journal's writer is just writing is left out, and so are a file without a byte and one that can
        be read from its beginning only, as one of gzip: nothing would use its index.

    Raises
    ------
    NotAStreamError
        It is no stream.
    LookupError, TypeError
        There is no such table or field, or it cannot be indexed; the schema is not known.
    ValueError
        It is neither a file nor a journal, or encrypted; no field is the time.
    OSError
        It cannot be read, or the index not be written.

    Examples
    --------
    >>> import os, tempfile
    >>> import flatstream
    >>> table = flatstream.Schema.from_file("examples/telemetry.bfbs").root
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", describe=table, checksum="xxhash64") as writer:
    ...         count = flatstream.RecordWriter(writer, table).write_records({"wall_time_ns": i} for i in range(5000))
    ...     report = index(path)
    ...     check = check_index(path)
    >>> report.indexes[0].action, report.indexes[0].rows, check.checks[0].state
    ('created', 5000, 'fits')
    """
    one = _checked(source)
    chosen = None if fields is None else list(fields)
    is_journal = one.kind == "journal"
    if one.size == 0 and not is_journal:
        return IndexingReport(one.name, (), (LeftOut(one.name, "it is empty"),))
    with _open(one, checksum, schema, table) as opened:
        known = opened.table
        if not is_journal:
            if (why := _unseekable(one.name)) is not None:
                return IndexingReport(one.name, (), (LeftOut(one.name, why),))
            if known is None:
                raise LookupError(_no_table(opened))
            dropped: list[str] = []
            report = _build(one.name, None, chosen, known, opened.checksum, _step(progress, one.size), dropped)
            return IndexingReport(one.name, (report,), dropped=tuple(dropped))
        assert opened.checksum is not None
        return _index_journal(one, chosen, known if schema is not None else None, table, opened.checksum, progress)


def check_index(
    source: str | os.PathLike[str] | Input,
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    schema: Schema | str | os.PathLike[str] | None = None,
    table: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> IndexCheckReport:
    """Compares the index of a file, or of each segment of a journal, with all of its messages. Nothing is changed.

    The frames are counted, and the ranges are found, by other means than those that build an index. It needs NumPy.

    Parameters
    ----------
    source, checksum, schema, table, progress
        See `index`.

    Returns
    -------
    IndexCheckReport

    Raises
    ------
    NotAStreamError, LookupError, ValueError, OSError
        See `index`.
    ImportError
        NumPy is not installed.
    """
    one = _checked(source)
    if one.kind != "journal":
        if one.size == 0:
            return IndexCheckReport(one.name, (IndexCheck(one.name, None, "none"),))
        with _open(one, checksum, schema, table) as opened:
            deframer, kind = opened.reader.deframer, opened.checksum
            given = opened.table if schema is not None or table is not None else None
        if (why := _unseekable(one.name)) is not None:
            return IndexCheckReport(one.name, (IndexCheck(one.name, None, "none", why),))
        assert kind is not None
        found = _check(
            one.name,
            lambda: open_ranges(one.name),
            lambda: StreamReader(one.name, deframer, on_error="resync"),
            given,
            kind,
            _step(progress, one.size),
        )
        return IndexCheckReport(one.name, (found,))
    with _open(one, checksum, schema, table) as opened:
        given = opened.table if schema is not None or table is not None else None
        assert opened.checksum is not None
        return _check_journal(one, opened.checksum, given, progress)


def _checked(source: Any) -> Input:
    one = only_input(source)
    if one.kind not in ("file", "journal"):
        raise ValueError(f"{one.name}: only files and journals have indexes")
    return one


def _open(one: Input, checksum: Any, schema: Any, table: str | None) -> Opened:
    opened = one.open(checksum, schema, table, stored="if unreadable")
    if opened.unreadable is not None:
        opened.close()
        raise UnreadableError.of(
            one.name, f"it gets no index, because its messages cannot be read: {opened.unreadable}"
        )
    return opened


def _unseekable(path: str) -> str | None:
    """Why a file has no use of an index, because it can be read from its beginning only; None if that is not so."""
    with open_ranges(path) as stream:
        return None if stream.can_seek else f"{UNSEEKABLE}: {why_unseekable(stream.compression)}"


def _no_table(opened: Opened) -> str:
    if opened.tables:
        names = ", ".join(sorted({table.name for table in opened.tables.values()}))
        return f"the stream has messages of several tables: say which one the index is about, of {names}"
    return "the stream does not say its schema, without which there are no fields: give it"


def _step(progress: Callable[[int, int], object] | None, size: int | None) -> Callable[[int], object]:
    if progress is None:
        return lambda at: None
    return lambda at: progress(at, size or 0)


def _build(
    path: str,
    out: str | None,
    fields: list[str] | None,
    table: Table,
    checksum: str | None,
    step: Callable[[int], object],
    dropped: list[str],
) -> IndexReport:
    """Builds an index, and adds to `dropped` the fields that are no longer in it."""
    before: list[str] | None = None
    if os.path.exists(path + SUFFIX if out is None else out):
        before = _fields_there(path, table)
        dropped += [name for name in before or () if fields is not None and name not in (*fields, *dropped)]
    if fields is None:
        fields = before
    with FileIndexer(path, fields, table=table, checksum=checksum, out=out) as indexer:
        while indexer.advance(None, STEP):
            step(indexer.position)
        indexer.finish()
        step(indexer.position)
        return indexer.report()


def _fields_there(path: str, table: Table) -> list[str] | None:
    """The fields of an index that is there, if it fits: who has chosen them wants to keep them."""
    try:
        with open_ranges(path) as stream:
            found = load_index(path, stream, table=table)
    except ImportError:
        # Without NumPy, nothing reads an index.
        return None
    fields = [one.path for one in found.fields] if isinstance(found, FileIndex) else []
    return fields or None


# Journals


def _index_journal(
    one: Input,
    fields: list[str] | None,
    given: Table | None,
    name: str | None,
    checksum: str,
    progress: Callable[[int, int], object] | None,
) -> IndexingReport:
    from flatstream.journal._layout import files_of_segment, index_path, list_segments
    from flatstream.journal._segment_files import stat_segment

    step = _step(progress, one.size)
    reports: list[IndexReport] = []
    left_out: list[LeftOut] = []
    dropped: list[str] = []
    done = 0
    for listed in list_segments(one.name):
        # Retention may remove it.
        with contextlib.suppress(FileNotFoundError):
            segment, status = stat_segment(listed)
            if not status.st_size:
                left_out.append(LeftOut(segment.path, "it is empty"))
                continue
            table, why = (given, None) if given is not None else _table_of(segment, checksum, name, fields)
            if table is None:
                left_out.append(LeftOut(segment.path, why or "its schema is not known"))
                continue
            try:
                out, behind = index_path(segment), _behind(step, done)
                reports.append(_build(segment.path, out, fields, table, checksum, behind, dropped))
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                left_out.append(LeftOut(segment.path, "the writer of the journal has its index open"))
            done += status.st_size
            if not any(map(os.path.exists, files_of_segment(segment, [])[1:])):
                # Removed since, before its index was there.
                os.unlink(index_path(segment))
    return IndexingReport(one.name, tuple(reports), tuple(left_out), True, tuple(dropped))


def _behind(step: Callable[[int], object], done: int) -> Callable[[int], object]:
    return lambda at: step(done + at)


def _table_of(
    segment: Segment, checksum: str, name: str | None, fields: list[str] | None
) -> tuple[Table | None, str | None]:
    """The table that the index of a segment is about, as its writer chooses it, or the one of this name; or why there
    is none.
    """
    from flatstream.journal._heads import read_description
    from flatstream.journal._segment_files import open_segment

    with open_segment(segment) as file:
        description = read_description(file, as_deframer(checksum))
    tables = described_tables(description)
    if name is not None:
        return pick_table(tables, None if description is None else description.schema, name), None
    if description is None or not tables:
        return None, "it does not say its schema"
    for root in description.roots:
        if fields is not None or root.time_field is not None or len(tables) == 1:
            return tables[root.file_identifier], None
    return None, "none of its tables has a time field: say which fields get an index"


def _check_journal(
    one: Input, checksum: str, given: Table | None, progress: Callable[[int, int], object] | None
) -> IndexCheckReport:
    from flatstream.journal._layout import list_segments

    step = _step(progress, one.size)
    checks: list[IndexCheck] = []
    done = 0
    for segment in list_segments(one.name):
        # Retention may remove it.
        with contextlib.suppress(FileNotFoundError):
            found = _check_segment(segment, checksum, given, _behind(step, done))
            checks.append(found)
            done += found.stream_size
    return IndexCheckReport(one.name, tuple(checks), is_journal=True)


def _check_segment(segment: Segment, checksum: str, given: Table | None, step: Callable[[int], object]) -> IndexCheck:
    from flatstream.journal._examine import deframer_of
    from flatstream.journal._segment_files import open_segment

    deframer = deframer_of(ChecksumType(checksum))

    def reader() -> StreamReader:
        file: Any = open_segment(segment)
        return StreamReader(Source(file, {"readinto": file.readinto}, owned=True), deframer, on_error="resync")

    return _check(segment.path, lambda: ranges_of(open_segment(segment)), reader, given, checksum, step)


# Comparing


def _check(
    path: str,
    open_bytes: Callable[[], RangeFile],
    open_reader: Callable[[], StreamReader],
    table: Table | None,
    checksum: str,
    step: Callable[[int], object],
) -> IndexCheck:
    """Compares an index with the stream that `open_reader` reads.

    `table` is the one with which its messages are read; by default the one that the index is about.
    """
    with open_bytes() as stream:
        size = stream.size
        found = load_index(path, stream, checksum=checksum)
        if isinstance(found, FileIndex):
            if table is None:
                with open_reader() as reader:
                    table = _described(reader.description, found)
            if table is None:
                why = "it is about messages that the stream does not describe"
                return IndexCheck(path, found.path, "ignored", why, stream_size=size)
            found = load_index(path, stream, table=table, checksum=checksum)
    if isinstance(found, UnusableIndex):
        if found.path is None:
            return IndexCheck(path, None, "none", stream_size=size)
        return IndexCheck(path, found.path, "ignored", found.reason, stream_size=size)
    assert table is not None
    with open_reader() as reader:
        intact_end, problems = _misplaced(reader, found)
    with open_reader() as reader:
        problems += _out_of_range(reader, table, found, step)
    step(size)
    return IndexCheck(
        path,
        found.path,
        "wrong" if problems else "fits",
        problems[0] if problems else "; ".join(found.notes) or None,
        tuple(problems[:MOST_TOLD]),
        len(problems),
        tuple(one.path for one in found.fields),
        len(found),
        found.covered,
        size,
        intact_end,
    )


def _described(description: Description | None, found: FileIndex) -> Table | None:
    """The table of a description that an index is about."""
    tables: dict[str, Table] = described_tables(description)
    for identifier, table in tables.items():
        if table.name == found.head.table and found.head.file_identifier in ("", identifier):
            return table
    return None


def _misplaced(reader: StreamReader, found: FileIndex) -> tuple[int, list[str]]:
    """Where the last intact frame ends, and in which blocks other frames are than the index says."""
    import numpy as np

    # Where the first frame of each block begins, and where the last one ends.
    begins = np.full(len(found), -1, "int64")
    ends = begins.copy()
    last_frames = found.first_frames + found.frames - 1
    intact_end = 0
    problems = []
    for batch in reader.batches(FRAMES):
        first = reader.frames_read + reader._frames_refused - len(batch)
        offsets = np.asarray(batch.frame_offsets).astype("int64")
        behind = np.asarray(batch.offsets).astype("int64") + np.asarray(batch.lengths) + batch.stream_offset
        intact_end = int(behind[-1]) if len(behind) else intact_end
        for numbers, places, into in ((found.first_frames, offsets, begins), (last_frames, behind, ends)):
            low, high = np.searchsorted(numbers, (first, first + len(batch)))
            into[low:high] = places[numbers[low:high] - first]
    for block in np.flatnonzero((begins != found.offsets) | (ends != found.ends)).tolist():
        are = "there are not so many"
        if begins[block] >= 0 and ends[block] >= 0:
            are = f"they are from {begins[block]:,} to {ends[block]:,}"
        problems.append(
            f"the frames of block {block} are said to be from offset {found.offsets[block]:,} to "
            f"{found.ends[block]:,}, and {are}"
        )
    return intact_end, problems


def _out_of_range(reader: StreamReader, table: Table, found: FileIndex, step: Callable[[int], object]) -> Iterator[str]:
    """In which blocks there are values outside of the ranges, or more nulls or messages than the index says."""
    import numpy as np

    paths = [one.path for one in found.fields]
    rows, nulls = np.zeros(len(found), "int64"), np.zeros((len(paths), len(found)), "int64")
    behind = found.first_frames + found.frames
    on_other: Literal["raise", "skip"] = "raise" if found.head.others is None else "skip"
    batches = table.read_column_batches(
        reader, paths, batch_rows=FRAMES, enums="number", on_error="resync", on_other=on_other, _numbers=NUMBERS
    )
    for batch in batches:
        step(reader.offset)
        if not len(found):
            continue
        numbers = np.asarray(batch[NUMBERS])
        blocks = np.searchsorted(found.first_frames, numbers, side="right") - 1
        blocks[numbers >= behind[blocks]] = -1
        columns = [batch[path].to_numpy() for path in paths]
        edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(numbers)]
        for begin, end in itertools.pairwise(edges):
            block = int(blocks[begin]) if begin < end else -1
            if block < 0:
                continue
            rows[block] += end - begin
            for at, path in enumerate(paths):
                values = columns[at][begin:end]
                if isinstance(values, np.ma.MaskedArray):
                    values = values.compressed()
                if values.dtype.kind == "f":
                    values = values[~np.isnan(values)]
                nulls[at, block] += end - begin - len(values)
                said = found.statistics[path]
                if not len(values):
                    continue
                low, high = values.min().item(), values.max().item()
                if not (said.low[block].item() <= low and high <= said.high[block].item()):
                    yield (
                        f"block {block} has values of {path} from {low} to {high}, and the index says from "
                        f"{said.low[block]} to {said.high[block]}"
                    )
    for block in np.flatnonzero(rows > found.rows).tolist():
        yield f"block {block} has {rows[block]} messages of {table.name}, and the index says {found.rows[block]}"
    for at, path in enumerate(paths):
        counts = found.statistics[path].nulls
        for block in np.flatnonzero(nulls[at] > counts).tolist():
            yield (
                f"block {block} has {nulls[at, block]} messages without a value of {path}, and the index says "
                f"{counts[block]}"
            )

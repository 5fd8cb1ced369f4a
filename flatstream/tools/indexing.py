"""`index` and `check_index`: building the indexes of files and journals, and comparing them with what they are about."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from flatstream._ranges import open_ranges, ranges_of
from flatstream.checksums import Checksum, ChecksumType
from flatstream.framing import Deframer
from flatstream.index import FileIndex, FileIndexer, IndexReport, UnusableIndex, load_index
from flatstream.reader import StreamReader
from flatstream.tools.inputs import Input, Opened, UnreadableError, only_input

if TYPE_CHECKING:
    from flatstream.journal._layout import Segment
    from flatstream.schema import Schema, Table

__all__ = ["IndexCheck", "IndexCheckReport", "IndexingReport", "LeftOut", "check_index", "index"]

# How many bytes are read between two calls of `progress`.
STEP = 16 << 20

# How many frames and rows are compared at a time.
FRAMES = 65_536

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
    """

    path: str
    indexes: tuple[IndexReport, ...]
    left_out: tuple[LeftOut, ...] = ()
    is_journal: bool = False

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
        """How many bytes before the ends of the indexes are no intact frames."""
        return sum(end - begin for one in self.indexes for begin, end in one.gaps)

    def to_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        content: dict[str, Any] = {"path": self.path, "journal": self.is_journal}
        content |= {name: getattr(self, name) for name in ("blocks", "size", "stream_size", "lost_bytes")}
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
        Each block has the frames, and no message has a value outside of the range, that the index says; there is none;
        readers leave it aside; or queries that use it would miss messages.
    reason : str or None
        Why it is left aside, or what is wrong first.
    problems : tuple of str
        What is wrong, of the first blocks.
    wrong : int
        How many things are wrong.
    fields : tuple of str
        The paths of its fields.
    blocks, covered, stream_size : int
        How many blocks it has, where the last one ends, and how many bytes the stream has.
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
        The paths of the fields; by default the field of the time.
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
        An index that a journal's writer is just writing is left out, and so is a file without a byte.

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
    ...         flatstream.RecordWriter(writer, table).write_records({"wall_time_ns": i} for i in range(5000))
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
        if known is None and not is_journal:
            raise LookupError(_no_table(opened))
        if not is_journal:
            return IndexingReport(
                one.name, (_build(one.name, None, chosen, known, opened.checksum, _step(progress, one.size)),)
            )
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
            if opened.table is None:
                raise LookupError(_no_table(opened))
            found = _check_file(one.name, opened, _step(progress, one.size))
        return IndexCheckReport(one.name, (found,))
    checks = []
    step = _step(progress, one.size)
    with _open(one, checksum, schema, table) as opened:
        kind = opened.checksum
    done = 0
    for segment in _segments(one.name):
        try:
            checks.append(_check_segment(segment, kind, schema, table, lambda at, done=done: step(done + at)))
        except FileNotFoundError:
            # Retention.
            continue
        done += checks[-1].stream_size
    return IndexCheckReport(one.name, tuple(checks), is_journal=True)


def _checked(source: Any) -> Input:
    one = only_input(source)
    if one.kind not in ("file", "journal"):
        raise ValueError(f"{one.name}: only files and journals have indexes")
    return one


def _open(one: Input, checksum: Any, schema: Any, table: str | None) -> Opened:
    opened = one.open(checksum, schema, table, stored="if unreadable")
    if opened.unreadable is not None:
        opened.close()
        raise UnreadableError.of(one.name, f"it gets no index, because its messages cannot be read: {opened.unreadable}")
    return opened


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
    table: Table | str | None,
    checksum: str | None,
    step: Callable[[int], object],
) -> IndexReport:
    with FileIndexer(path, fields, table=table, checksum=checksum, out=out) as indexer:
        while indexer.advance(None, STEP):
            step(indexer.position)
        indexer.finish()
        step(indexer.position)
        return indexer.report()


# Journals


def _segments(directory: str) -> list[Segment]:
    from flatstream.journal._layout import list_segments

    return list_segments(directory)


def _index_journal(
    one: Input,
    fields: list[str] | None,
    given: Table | None,
    name: str | None,
    checksum: str,
    progress: Callable[[int, int], object] | None,
) -> IndexingReport:
    from flatstream.journal._layout import index_path
    from flatstream.journal._segment_files import stat_segment

    step = _step(progress, one.size)
    reports: list[IndexReport] = []
    left_out: list[LeftOut] = []
    done = 0
    for listed in _segments(one.name):
        try:
            segment, status = stat_segment(listed)
            if not status.st_size:
                left_out.append(LeftOut(segment.path, "it is empty"))
                continue
            table = given or name or _table_of_segment(segment.path, checksum)
            reports.append(
                _build(
                    segment.path,
                    index_path(segment),
                    fields,
                    table,
                    checksum,
                    lambda at, done=done: step(done + at),  # type: ignore[misc]
                )
            )
            done += status.st_size
        except FileNotFoundError:
            # Retention.
            continue
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            left_out.append(LeftOut(listed.path, "the journal's writer has its index open"))
    return IndexingReport(one.name, tuple(reports), tuple(left_out), is_journal=True)

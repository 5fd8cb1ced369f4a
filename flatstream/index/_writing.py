"""The index of a file that is being written.

The writer shows a `BlockBuilder` the frames that it hands to the file. When there are enough blocks, and when the file
is flushed or closed, they are written to the index: after the frames themselves. So after a crash of the process, the
index has less than the file. After a crash of the machine it may have more, because the system writes files in any
order; readers and `FileIndexer` see that by the fingerprint of the last frame.

Whatever happens to the index, the writer goes on: a word is in the log, and the index ends there. Only what a signal
handler raises reaches the writer's caller.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import threading
import weakref
from typing import TYPE_CHECKING, Any, Literal

from flatstream._core.column_reader.blocks import BlockBuilder
from flatstream._index_hook import SUFFIX
from flatstream.columns.stream import make_plan
from flatstream.description.choice import described_tables
from flatstream.description.head import checksum_of, head_frame, innermost_framer, transforms_of
from flatstream.index._fields import choose_fields, identifier_of, others_of
from flatstream.index._file import IndexFile
from flatstream.index._format import Fingerprint, Head, fingerprint_of_first
from flatstream.index.building import FileIndexer, IndexReport
from flatstream.transforms.described import ENCRYPTION

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.framing import Framer
    from flatstream.schema import Table
    from flatstream.writer import StreamWriter

__all__ = ["WriterIndex", "begin", "check"]

logger = logging.getLogger("flatstream.index")

# A message has so many blocks, and at least so many when the file is flushed: fewer would make the index larger than a
# thousandth of the file. What is behind them is read without the index.
FULL = 256
LEAST_AT_FLUSH = 16


def check(index: bool | list[str], description: Description | None, framer: Framer) -> None:
    """Raises ValueError, TypeError or KeyError if a stream that is begun so cannot have this index."""
    _chosen(index, description)
    if checksum_of(framer) is None:
        raise ValueError(f"index= is about frames that are known, and not about those of {framer!r:.100}")
    if any(name == ENCRYPTION for name, _, _ in transforms_of(framer)):
        raise ValueError("the stream is encrypted, and an index would tell the range of its fields to anyone")


def _chosen(index: bool | list[str], description: Description | None) -> tuple[Table, Any]:
    tables = described_tables(description)
    if not tables:
        raise ValueError(
            "index= needs to know the table of the messages: pass it as describe=, or build the index afterwards, by "
            "flatstream.build_index(path, table=...)"
        )
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables.values())
        raise ValueError(
            f"the stream has messages of several tables: {names}. An index is about one: build it afterwards, by "
            "flatstream.build_index(path, table=...)"
        )
    (table,) = tables.values()
    return table, choose_fields(table, None if isinstance(index, bool) else index, description)


def begin(writer: StreamWriter, path: str, index: bool | list[str], size: int) -> WriterIndex | None:
    """Begins or continues the index of the file that `writer` has opened; see `flatstream._index_hook`."""
    table, fields = _chosen(index, writer.description)
    check(index, writer.description, writer.framer)
    try:
        return WriterIndex(writer, path, table, fields, size)
    except Exception as error:
        # Not even a file of a kind that has none, as a pipe, may keep anybody from writing.
        logger.warning("%s gets no index: %s: %s", path, type(error).__name__, error)
        return None


class WriterIndex:
    """The index of a file that a StreamWriter writes."""

    def __init__(self, writer: StreamWriter, path: str, table: Table, fields: Any, size: int) -> None:
        self._path = path
        self._index_path = path + SUFFIX
        self._table = table
        self._fields = tuple(fields)
        self._file: IndexFile | None = None
        self._stopped_because: str | None = None
        self._began_at = size
        self._entries: list[tuple[int, int]] = []
        self._blocks = self._frames = self._rows = 0
        self._action: Literal["created", "continued", "replaced", "unchanged"] = "created"
        self._replaced_because: str | None = None
        # Not of the writer itself, which has this object.
        self._writer = weakref.ref(writer)
        status = os.fstat(writer.sink.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("an index is about a regular file")
        number = self._catch_up() if size else 0
        description = writer.description
        assert description is not None
        frame = head_frame(description, writer.framer)
        self._begin = len(frame)
        self._file = IndexFile(self._index_path, status)
        try:
            if size:
                assert self._file.parsed is not None
                self._file.cut(self._file.parsed.end)
            else:
                self._file.replace(self._head(fingerprint_of_first(frame), writer.framer))
            others = others_of(table)
            self._builder = BlockBuilder(
                make_plan(table, [each.path for each in self._fields], "number"),
                excluded=None if others is None else "".join(others).encode("latin-1"),
                offset=size or len(frame),
                number=number,
            )
            name = checksum_of(writer.framer)
            assert name is not None
            self._builder.watch(
                _header_size(writer.framer),
                size,
                number,
                not transforms_of(writer.framer),
                FULL,
                self._write_full,
                self.close,
            )
        except BaseException:
            self._file.close()
            raise
        writer._watch(self._builder)

    def _head(self, first: Fingerprint, framer: Framer) -> Head:
        name = checksum_of(framer)
        assert name is not None
        return Head(
            name,
            self._table.name,
            identifier_of(self._table),
            others_of(self._table),
            self._fields,
            first,
            self._begin,
        )

    def _catch_up(self) -> int:
        """Brings the index of a file to which is appended up to date; returns the number of the next message."""
        with FileIndexer(self._path, [each.path for each in self._fields]) as indexer:
            indexer.finish()
            if indexer.position != self._began_at:
                raise ValueError(f"the file is damaged at its end, from offset {indexer.position} on")
            report = indexer.report()
            self._entries = indexer.entries
        self._action, self._replaced_because = report.action, report.replaced_because
        self._blocks, self._frames, self._rows = report.blocks, report.frames, report.rows
        return indexer.next_number

    # Called by the compiled writer, and when it is flushed or closed. The writer is held.

    def _write_full(self) -> None:
        try:
            if self._builder.failure is not None:
                raise self._builder.failure
            self._write(with_rest=False)
        except Exception as error:
            if _is_of_handler(error):
                raise
            self._stop(error)

    def flushed(self) -> None:
        """Writes the blocks that are complete, if they are not too few."""
        try:
            if self._file is not None and self._builder.waiting_blocks >= LEAST_AT_FLUSH:
                self._write(with_rest=False)
        except Exception as error:
            if _is_of_handler(error):
                raise
            self._stop(error)

    def close(self) -> None:
        """Writes what is left, and closes the index."""
        try:
            if self._file is not None:
                self._write(with_rest=True)
                self._file.close()
                self._file = None
        except Exception as error:
            if _is_of_handler(error):
                raise
            self._stop(error)
        self._builder.stop()

    def abandon(self) -> None:
        """Forgets the index, which another process writes."""
        self._file = None
        self._builder.stop()

    def _write(self, *, with_rest: bool) -> None:
        file = self._file
        if file is None:
            return
        for run in self._builder.take(with_rest):
            written = file.write_blocks(run, self._fields)
            self._entries.append((written.begin, written.end))
            self._blocks += written.blocks
            self._frames += written.frames
            self._rows += written.rows
        file.flush()

    def _stop(self, error: Exception) -> None:
        """Ends the index after an error, of which the file knows nothing."""
        self._stopped_because = f"{type(error).__name__}: {error}"
        self._builder.stop()
        file, self._file = self._file, None
        second = None
        if file is not None:
            try:
                file.close()
            except Exception as failure:
                second = failure
        # Whatever somebody's handler of the log raises is no error of the writer.
        with contextlib.suppress(Exception):
            logger.warning("the index %s ends here, the file goes on: %s", self._index_path, self._stopped_because)
            if second is not None:
                logger.debug("closing the index %s failed too: %s", self._index_path, second)

    @property
    def report(self) -> IndexReport:
        """What the index has so far. Blocks that were not written to it yet are not counted."""
        gaps = []
        behind = self._begin
        for begin, end in self._entries:
            if begin > behind:
                gaps.append((behind, begin))
            behind = end
        writer = self._writer()
        written = 0 if writer is None else writer.bytes_written + (0 if self._began_at else self._begin)
        action = "continued" if self._action == "unchanged" else self._action
        try:
            size = os.stat(self._index_path).st_size
        except OSError:
            size = 0
        return IndexReport(
            self._index_path,
            self._path,
            action,
            self._replaced_because,
            self._fields,
            self._table.name,
            self._blocks,
            self._frames,
            self._rows,
            self._entries[-1][1] if self._entries else 0,
            self._began_at + written,
            tuple(gaps),
            size,
            self._stopped_because,
        )


def _is_of_handler(error: Exception) -> bool:
    """Whether a signal handler has raised this, and not the index: an exception of a kind that is not Python's or this
    package's, or a time limit, which has no number as an error of the system has.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signal handlers run in the main thread.
        return False
    if isinstance(error, OSError):
        return error.errno is None
    return type(error).__module__.partition(".")[0] not in ("builtins", "flatstream")


def _header_size(framer: Framer) -> int:
    inner = innermost_framer(framer)
    checksum = getattr(inner, "checksum", None)
    return 4 + (0 if checksum is None else checksum.size)

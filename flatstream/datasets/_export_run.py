"""One run of an export to Parquet: which sources have something new, reading it, and the steps that put it into files.

The folders are those of `_hive`, `_export_files` writes the files, and `_export_state` has the state, and says when a
step counts.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from flatstream._files import open_descriptor, say_what_is_full, sync
from flatstream._ranges import RangeFile, open_ranges, ranges_of
from flatstream.datasets._export_files import Files
from flatstream.datasets._export_report import Lost, ParquetReport
from flatstream.datasets._export_state import Export, FileState, JournalState, fingerprints_of, head_of
from flatstream.datasets._hive import Partitioning
from flatstream.datasets._reading import FRAME, Outcome, Position, read_sequentially
from flatstream.errors import FlatStreamError
from flatstream.journal._layout import Manifest, Segment, read_manifest
from flatstream.journal._segment_files import open_segment
from flatstream.tools.conversion._columns import DESCRIPTION_KEY, TABLE_KEY

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset
    from flatstream.datasets._parts import Part

__all__ = ["Run"]

BATCH_ROWS = 65_536

# After so many bytes of streams, or so many files, a step ends: what a run that is killed has done until then is kept.
STEP_BYTES = 8 << 30
STEP_SOURCES = 1000


@dataclass
class _Source:
    """A file, or a segment, that is to be read, and how far it was."""

    number: int
    part: Part
    key: str
    before: FileState
    journal: str | None = None
    journal_id: str | None = None


@dataclass
class _Reached:
    """How far a source is read in this run."""

    position: Position
    next: int
    is_whole: bool = False


class Run:
    """One run of an export."""

    progress: Callable[[int, int], object] | None = None
    # Whether rows are exported that another export in the same folder has.
    again = False

    def __init__(
        self,
        dataset: Dataset,
        layout: Partitioning,
        names: list[str],
        written: list[str],
        where: Any,
        open_periods: tuple[int, int] | None,
        row_group_rows: int,
        max_file_bytes: int,
        compression: str,
    ) -> None:
        self.dataset = dataset
        self.layout = layout
        self.written = written
        self.open_periods = open_periods
        self.row_group_rows = row_group_rows
        self.max_file_bytes = max_file_bytes
        self.compression = compression
        read = list(dict.fromkeys([*names, *(one for one in layout.columns if one)]))
        # With the numbers of frames as the last column, also if there is a field of its name.
        self.query = replace(dataset._query(read, where, BATCH_ROWS, False, False), frame=True)
        if self.query.reads_more and FRAME in self.query.read.names:
            raise ValueError(f"a field called {FRAME!r} cannot be exported with this `where`: use other conditions")
        self.step_bytes = 0
        self.done_bytes = 0
        self.total_bytes = 0
        self.files: dict[str, FileState] = {}
        self.journals: dict[str, JournalState] = {}
        # The damage that ended some sources, and the journals of which nothing more is exported in this run.
        self.errors: list[FlatStreamError] = []
        self.stopped: set[str] = set()

    def go(self, export: Export) -> ParquetReport:
        self.export = export
        self.report = ParquetReport(export.directory, finished=export.finished)
        if not self.again:
            self._check_others()
        self.new = self._new_files()
        try:
            self._export_all()
        except BaseException as error:
            say_what_is_full(error, export.directory)
            raise
        finally:
            self.new.close()
        if self.errors:
            for other in self.errors[1:]:
                self.errors[0].add_note(f"and also: {other}")
            if self.report.files:
                rows, files = self.report.rows, len(self.report.files)
                self.errors[0].add_note(f"exported all the same: {rows} rows in {files} new files")
            raise self.errors[0]
        return self.report

    def _check_others(self) -> None:
        """Raises ValueError if another export in the folder has rows of a source that is new to this one."""
        known = self.export.state
        own = {one.id for one in known.journals.values()}
        manifests: dict[str, Manifest | None] = {}
        fresh: list[tuple[Part, str, str | None]] = []
        for part in self.dataset._parts:
            source = part.path if part.journal is None else part.journal
            if part.journal is not None:
                if part.journal not in manifests:
                    manifests[part.journal] = found = read_manifest(part.journal)
                    if found is not None and found.id not in own:
                        fresh.append((part, source, found.id))
            else:
                source = source if part.kind == "remote" else os.path.abspath(source)
                if source not in known.files:
                    fresh.append((part, source, None))
        # The states of others are read for them alone: a lake can have those of a thousand machines.
        for name, state in self.export.others() if fresh else ():
            identities = {one.id for one in state.journals.values() if one.id is not None and one.next}
            for part, source, identity in fresh:
                if identity is not None:
                    is_shared = identity in identities
                else:
                    # Other machines may have the same path for their own files.
                    one = state.files.get(source)
                    is_shared = one is not None and bool(one.head) and self._begins_as(part, one)
                if is_shared:
                    raise ValueError(
                        f"the export {name!r} in this folder has rows of {part.journal or part.path!r:.200}, and "
                        f"readers of the folder would find them twice: go on with name={name!r}, export into another "
                        f"folder, or pass again=True ({self.export.directory})"
                    )

    def _begins_as(self, part: Part, known: FileState) -> bool:
        """Whether a file begins as the one of which `known` was exported."""
        with contextlib.suppress(FileNotFoundError), _open(part) as file:
            return head_of(file, known.covered) == known.head
        return False

    def _export_all(self) -> None:
        """Exports all files and segments."""
        sources = list(self._plan())
        self.total_bytes = sum(one.part.size or 0 for one in sources)
        for number, source in enumerate(sources):
            # Behind the place where a journal stands still, nothing is exported: what is before it comes later.
            if source.journal is not None and source.journal in self.stopped:
                continue
            damage, is_held_back = self._read(source)
            if damage is not None:
                self.errors.append(damage)
            if source.journal is not None and (damage is not None or is_held_back):
                self.stopped.add(source.journal)
            if self.step_bytes >= STEP_BYTES or number % STEP_SOURCES == STEP_SOURCES - 1:
                self._commit()
        self._commit()

    # What there is to read

    def _plan(self) -> Iterator[_Source]:
        """The files and segments, in the order of the dataset, without those that were exported to their ends."""
        state = self.export.state
        parts = list(enumerate(self.dataset._parts))
        keys = {number: part.path if part.kind == "remote" else os.path.abspath(part.path) for number, part in parts}
        files = {keys[number]: part for number, part in parts if part.journal is None}
        # What was exported of files that are gone from their paths, by the checksums of their beginnings.
        self.gone = {path: one for path, one in state.files.items() if path not in files and one.offset}
        fresh: list[str] = []
        judged: dict[str, FileState | None] = {}
        for path, part in files.items():
            known = state.files.get(path)
            if known is None or not known.offset:
                fresh.append(path)
                continue
            judgement = self._judge(part, known)
            if judgement == "another":
                self.report.replaced.append(path)
                self.gone[path] = known
                fresh.append(path)
            elif judgement == "changed":
                self._tell_changed(path, known)
                judged[path] = None
            elif judgement == "same":
                judged[path] = known
            else:
                judged[path] = None
        for path in fresh:
            judged[path] = self._moved(path, files[path]) or FileState()
        seen: dict[str, tuple[str | None, JournalState | None]] = {}
        for number, part in parts:
            if part.journal is None:
                before = judged[keys[number]]
                if before is not None:
                    yield _Source(number, part, keys[number], before)
            else:
                source = self._segment(number, part, keys[number], seen)
                if source is not None:
                    yield source

    def _segment(
        self, number: int, part: Part, key: str, seen: dict[str, tuple[str | None, JournalState | None]]
    ) -> _Source | None:
        assert part.journal is not None
        folder = os.path.abspath(part.journal)
        if folder not in seen:
            manifest = read_manifest(folder)
            identity = None if manifest is None else manifest.id
            known = self._known_journal(folder, identity)
            seen[folder] = identity, known
            if known is not None and part.first > max(known.segment, known.next):
                # The oldest segment that is left begins behind what was exported.
                self.report.lost.append(Lost(folder, known.next, part.first))
        identity, known = seen[folder]
        if known is None or part.first > known.segment:
            return _Source(number, part, key, FileState(), folder, identity)
        if part.first < known.segment:
            return None
        judgement = self._judge(part, known.file)
        if judgement == "same":
            return _Source(number, part, key, known.file, folder, identity)
        if judgement != "done":
            self._tell_changed(part.path, known.file, folder)
        return None

    def _known_journal(self, folder: str, identity: str | None) -> JournalState | None:
        """How far a journal was exported, also if its folder has another name since."""
        journals = self.export.state.journals
        known = journals.get(folder)
        if known is not None and (known.id == identity or None in (known.id, identity)):
            return known
        for path, one in journals.items():
            if identity is None or one.id != identity or path == folder:
                continue
            there = read_manifest(path) if os.path.isdir(path) else None
            if there is None or there.id != identity:
                self.export.forget([], [path])
                self.journals[folder] = one
                return one
        if known is not None:
            self.report.replaced.append(folder)
        return None

    def _judge(self, part: Part, known: FileState) -> Literal["same", "done", "another", "changed"]:
        """Whether a file is the one of which `known` was exported."""
        if not known.offset:
            return "same"
        if known.size >= 0 and _status_of(part) == (known.size, known.mtime_ns):
            return "done"
        with _open(part) as file:
            head, tail = fingerprints_of(file, known.offset, with_tail=bool(known.tail))
            # A URL has no status by which it is known without reading.
            is_done = part.kind == "remote" and file.size == known.offset
        if head != known.head:
            return "another"
        if tail != known.tail:
            return "changed"
        return "done" if is_done else "same"

    def _moved(self, path: str, part: Part) -> FileState | None:
        """What was exported of a file at another path, which has this one since. The old path is forgotten."""
        if not self.gone or part.size == 0:
            return None
        heads: dict[int, str] = {}
        with contextlib.suppress(FileNotFoundError), _open(part) as file:
            for old, known in self.gone.items():
                if known.covered not in heads:
                    heads[known.covered] = head_of(file, known.covered)
                if heads[known.covered] != known.head:
                    continue
                if not known.tail or fingerprints_of(file, known.offset, with_tail=True)[1] == known.tail:
                    del self.gone[old]
                    if old in self.report.replaced:
                        # Its rest is exported from its new path.
                        self.report.replaced.remove(old)
                    if self.export.state.files.get(old) == known:
                        self.export.forget([old], [])
                    self.files[path] = known
                    return known
        return None

    def _tell_changed(self, path: str, known: FileState, journal: str | None = None) -> None:
        if self.dataset._options.on_error != "raise":
            self.report.changed.append(path)
            return
        self.errors.append(
            FlatStreamError(
                f"{path}: its bytes before offset {known.offset}, up to which it was exported, are others now, so that "
                "rows could be exported twice or not at all. With on_error='skip', 'stop' or 'resync', files that were "
                "changed are left out"
            )
        )
        if journal is not None:
            self.stopped.add(journal)

    # Reading

    def _read(self, source: _Source) -> tuple[FlatStreamError | None, bool]:
        """Exports the rows of a source.

        Returns
        -------
        tuple of FlatStreamError or None, and bool
            The damage before which it ended; and whether it ended before a row that is held back.
        """
        part, before = source.part, source.before
        head = self.dataset._head(source.number)
        if head.table is None or not self.query.columns_of(head, part).has_rows:
            return None, False
        status = _status_of(part)
        begin = Position(before.offset, before.frame) if before.offset else Position(head.begin, 0)
        reached = _Reached(begin, before.next)
        outcome = Outcome()
        found_damage: FlatStreamError | None = None
        counted = 0, 0
        is_held_back = False
        try:
            opened = _open(part)
        except FileNotFoundError:
            self.report.removed.append(part.path)
            return None, False
        self.report.sources += 1
        with opened as file:
            batches = read_sequentially(part, head, self.query, outcome, begin)
            while True:
                try:
                    found = next(batches, None)
                except FlatStreamError as damage:
                    # What is before it is exported. Errors of other kinds end the run, and nothing of this step is.
                    found_damage = damage
                    break
                except FileNotFoundError:
                    if reached.position != begin:
                        raise
                    self.report.removed.append(part.path)
                    return None, False
                if found is None:
                    break
                is_held_back = self._take(found[0], found[1], part.first, reached)
                if not is_held_back:
                    counted = outcome.so_far
                self._tell(part, reached.position.offset)
                if is_held_back:
                    break
                if self.step_bytes + reached.position.offset - begin.offset >= STEP_BYTES:
                    begin = reached.position
                    self._settle(source, file, reached, (-1, -1))
                    self._commit()
            batches.close()
            self.step_bytes += max(0, reached.position.offset - begin.offset)
            is_whole = found_damage is None and not is_held_back and outcome.torn is None and outcome.stopped is None
            self._settle(source, file, reached, status if is_whole else (-1, -1))
        if is_held_back:
            # The batch with the row that is held back is read again, and its damage found again.
            self.report.held_back.append(part.path)
        else:
            counted = outcome.skipped, outcome.lost_bytes
            if outcome.stopped is not None:
                self.report.stopped.append((part.path, str(outcome.stopped)))
        self.report.skipped += counted[0]
        self.report.lost_bytes += counted[1]
        self.done_bytes += part.size or 0
        self._tell(part, 0)
        return found_damage, is_held_back

    def _take(self, batch: pa.RecordBatch, position: Position, first: int, reached: _Reached) -> bool:
        """Puts rows into files, but those that were exported before. Returns whether the rest is held back."""
        import numpy as np

        count = batch.num_columns - 1
        frames = batch.column(count).to_numpy() - first
        batch = batch.select(list(range(count)))
        is_held_back = False
        begin = int(np.searchsorted(frames, reached.next)) if len(frames) and frames[0] < reached.next else 0
        end = len(frames)
        if self.open_periods is not None and end:
            first, behind = self.open_periods
            periods, absent = self.layout.periods_of(batch)
            is_open = (periods >= first) & (periods < behind)
            if absent is not None:
                is_open &= ~absent
            held = np.flatnonzero(is_open[begin:])
            if len(held):
                end = begin + int(held[0])
                is_held_back = True
        if end > begin:
            rows = batch if end - begin == batch.num_rows else batch.slice(begin, end - begin)
            for folder, some in self.layout.split(rows):
                if some.num_rows * 2 < batch.num_rows:
                    # A slice keeps the memory of the whole batch, perhaps for long.
                    some = some.take(pa.array(np.arange(some.num_rows)))
                self.new.add(folder, some.select(self.written))
        if is_held_back:
            reached.next = max(reached.next, int(frames[end]))
        else:
            reached.position = position
            reached.next = max(reached.next, position.frame)
        return is_held_back

    def _settle(self, source: _Source, file: RangeFile, reached: _Reached, status: tuple[int, int]) -> None:
        """Notes how far a source was read, whose bytes are lasting then."""
        part = source.part
        offset = reached.position.offset
        if part.kind == "file" and file.status is not None:
            _check_same(part.path, file.status)
        if part.kind != "remote":
            _make_lasting(part)
        head, tail = fingerprints_of(file, offset, with_tail=file.can_seek) if offset else ("", "")
        size, mtime_ns = status
        state = FileState(offset, reached.position.frame, reached.next, head, tail, size, mtime_ns)
        if source.journal is None:
            self.files[source.key] = state
        else:
            self.journals[source.journal] = JournalState(source.journal_id, part.first, state)

    def _tell(self, part: Part, offset: int) -> None:
        if self.progress is not None:
            self.progress(self.done_bytes + min(offset, part.size or 0), self.total_bytes)

    # Writing

    def _new_files(self) -> Files:
        schema = pa.schema([self.query.schema.field(one) for one in self.written])
        return Files(self.export, schema, self._metadata(), self.row_group_rows, self.max_file_bytes, self.compression)

    def _metadata(self) -> dict[str, str]:
        """What each file carries: of which export it is, and how its messages were described."""
        found = {"flatstream.export": f"{self.export.name} {self.export.state.id}"}
        for number in range(len(self.dataset._parts)):
            head = self.dataset._head(number)
            if head.table is not None and head.description is not None and head.description.table is not None:
                # As `flatstream.tools.convert` writes it, so that it can make a stream of the file.
                found[TABLE_KEY] = head.table.name
                found[DESCRIPTION_KEY] = base64.b64encode(head.description.to_bytes()).decode()
                break
        return found

    def _commit(self) -> None:
        """Ends a step."""
        self.new.finish()
        state = self.export.state
        if (
            self.new.complete
            or any(state.files.get(path) != one for path, one in self.files.items())
            or any(state.journals.get(path) != one for path, one in self.journals.items())
        ):
            made = [new for new, _ in self.new.complete]
            self.report.size += sum(os.stat(one.path).st_size for one in made)
            self.export.commit(made, self.new.rows, self.files, self.journals)
            self.report.rows += self.new.rows
            self.report.files += [os.path.join(one.folder, one.name) for one in made]
        self.files, self.journals = {}, {}
        self.step_bytes = 0
        self.new.complete.clear()


def _open(part: Part) -> RangeFile:
    if part.kind == "segment":
        return ranges_of(open_segment(Segment(part.path, part.first)))
    return open_ranges(part.path)


def _status_of(part: Part) -> tuple[int, int]:
    """The size and the time of the last change of a file, as it is now; -1 and -1 if it has none."""
    if part.kind == "remote":
        return -1, -1
    try:
        found = os.stat(part.path)
    except FileNotFoundError:
        return -1, -1
    # A file that grew since the snapshot is not read to its end.
    return (found.st_size, found.st_mtime_ns) if found.st_size == part.size else (-1, -1)


def _check_same(path: str, opened: os.stat_result) -> None:
    """Raises FlatStreamError if there is another file at the path than the one that was opened."""
    try:
        is_same = os.path.samestat(os.stat(path), opened)
    except FileNotFoundError:
        is_same = False
    if not is_same:
        raise FlatStreamError(
            f"{path}: the file was renamed or replaced while it was read, so that it is not certain which rows it had: "
            "nothing of this step was exported, and another run goes on"
        )


def _make_lasting(part: Part) -> None:
    """Makes the bytes of a file lasting: a power cut must not take back what was exported, and give its number to
    another frame.
    """
    with contextlib.suppress(FileNotFoundError, PermissionError):
        fd = open_descriptor(part.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            sync(fd)
        finally:
            os.close(fd)

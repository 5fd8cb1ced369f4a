"""`Dataset.to_parquet`: the rows of a dataset in Parquet files by folders, each row once, however often it is run."""

from __future__ import annotations

import base64
import contextlib
import datetime
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream._files import say_what_is_full, sync
from flatstream._ranges import RangeFile, open_ranges, ranges_of
from flatstream._remote import is_url
from flatstream.datasets._export_files import COMPRESSIONS, Files
from flatstream.datasets._export_state import (
    Export,
    FileState,
    JournalState,
    fingerprints_of,
    head_of,
)
from flatstream.datasets._hive import TIMES, Partitioning
from flatstream.datasets._reading import FRAME, Outcome, Position, read_sequentially
from flatstream.errors import FlatStreamError
from flatstream.journal._layout import Segment, read_manifest
from flatstream.journal._segment_files import open_segment
from flatstream.tools.conversion._columns import DESCRIPTION_KEY, TABLE_KEY

if TYPE_CHECKING:
    from flatstream.datasets._dataset import Dataset
    from flatstream.datasets._parts import Part

__all__ = ["Lost", "ParquetReport", "conditions_of", "descriptions_of", "write_parquet"]

BATCH_ROWS = 65_536

# After so many bytes of streams, or so many files, a step ends: what a run that is killed has done until then is kept.
STEP_BYTES = 8 << 30
STEP_SOURCES = 1000

DAY_AND_HOUR = "'hour', 'day'"


class Lost(NamedTuple):
    """Frames of a journal that retention removed before they were exported.

    Attributes
    ----------
    journal : str
        The folder.
    begin, end : int
        The numbers of the first one, and of the one behind the last one.
    """

    journal: str
    begin: int
    end: int


@dataclass
class ParquetReport:
    """What one run of `Dataset.to_parquet` did.

    Attributes
    ----------
    directory : str
        The folder.
    files : list of str
        The paths of the new files in it, as ``date=2026-11-29/hour=13/export-0a1b2c3d-00000007.parquet``.
    rows, size : int
        How many rows they have, and how many bytes.
    sources : int
        How many files, and segments of journals, were read.
    finished : int
        How many files got their names that an earlier run had completed, which was killed before it named them.
    held_back : list of str
        The files, and segments, whose rows of the hour or day that is not over yet are left for the next run.
    removed : list of str
        Files that were removed between the listing and the reading of the dataset.
    lost : list of Lost
        What retention removed too early.
    replaced : list of str
        Files that are others now than those that were exported under their paths. They were exported from their
        beginning; what the old ones got after the last run is not known.
    changed : list of str
        Files whose bytes before the place where the last run ended are others now. They were left out.
    skipped, lost_bytes : int
        How many damaged messages and bytes were left out, if `on_error` is not "raise".
    stopped : list of (str, str)
        The files that ``on_error="stop"`` left at their first damage, and the damage.
    """

    directory: str
    files: list[str] = field(default_factory=list)
    rows: int = 0
    size: int = 0
    sources: int = 0
    finished: int = 0
    held_back: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    skipped: int = 0
    lost_bytes: int = 0
    stopped: list[tuple[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as a dict of values that JSON has."""
        return asdict(self) | {"lost": [one._asdict() for one in self.lost]}


def write_parquet(
    dataset: Dataset,
    directory: str | os.PathLike[str],
    *,
    partition_by: str | Sequence[str] | None = "hour",
    fields: Iterable[str] | None = None,
    where: Any = None,
    until: Literal["now", "closed"] | datetime.datetime = "now",
    row_group_rows: int = 65_536,
    max_file_bytes: int = 512 << 20,
    compression: str = "zstd",
    resume: bool = True,
    name: str = "export",
    progress: Callable[[int, int], object] | None = None,
) -> ParquetReport:
    """See `Dataset.to_parquet`."""
    if is_url(directory):
        raise ValueError(
            f"the folder of new files must be one of a file system, in which files get their names at once, got the "
            f"URL {os.fspath(directory)!r:.200}: mount it, or copy the files there afterwards"
        )
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression must be one of {', '.join(COMPRESSIONS)}, got {compression!r:.100}")
    if not isinstance(resume, bool):
        raise TypeError(f"resume must be a bool, got {resume!r:.100}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, got {type(progress).__name__}")
    row_group_rows = int_argument("row_group_rows", row_group_rows, 1, 1 << 30)
    max_file_bytes = int_argument("max_file_bytes", max_file_bytes, 1, 1 << 60)
    names = list(dataset.arrow_schema.names) if fields is None else _names_of(fields)
    layout = _layout(dataset, partition_by)
    written = [one for one in names if one not in layout.removed]
    for one in layout.names():
        if one in written and one not in layout.removed:
            raise ValueError(
                f"the folders make a column {one!r}, and there is a field of this name: choose fields without it"
            )
    if not written:
        raise ValueError("no field is left for the files, because all are in the names of folders")
    open_periods = _open_periods(until, layout)
    table = dataset._options.table
    options = {
        "table": table if table is None or isinstance(table, str) else table.name,
        "partition_by": layout.keys,
        "fields": None if fields is None else names,
        "where": _text_of(where),
        "times": dataset._options.times,
    }
    run = _Run(dataset, layout, names, written, where, open_periods, row_group_rows, max_file_bytes, compression)
    with Export(os.fspath(directory), name, options, resume=resume) as export:
        run.progress = progress
        return run.go(export)


def descriptions_of(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """The path and the description, or None, of each file and segment."""
    for number, part in enumerate(dataset._parts):
        yield part.path, dataset._head(number).description


def conditions_of(dataset: Dataset, make: Callable[[Any, Any], Any]) -> Any:
    """The conditions that `make` returns for the table and the description of the first file that says its messages."""
    for number in range(len(dataset._parts)):
        head = dataset._head(number)
        if head.table is not None:
            return make(head.table, head.description)
    return None


def _names_of(fields: Iterable[str]) -> list[str]:
    if isinstance(fields, str):
        raise TypeError(f"fields must be a list of paths, got a str: {fields!r:.100}")
    return list(fields)


def _text_of(where: Any) -> str | None:
    """A text for conditions that is the same for equal ones."""
    if where is None:
        return None
    return repr(where) if isinstance(where, (tuple, list)) else str(where)


def _layout(dataset: Dataset, partition_by: Any) -> Partitioning:
    """The folders that `partition_by` means."""
    if partition_by is None:
        return Partitioning([], None, None)
    keys = [partition_by] if isinstance(partition_by, str) else list(partition_by)
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"partition_by must be {DAY_AND_HOUR}, names of columns or None, got {key!r:.100}")
    if len(set(keys)) < len(keys) or sum(key in TIMES for key in keys) > 1:
        raise ValueError(f"partition_by has a column, or the time, more than once: {keys!r:.200}")
    others = [key for key in keys if key not in TIMES]
    # KeyError says which fields there are.
    schema = dataset._schema(tuple(others))
    for key in others:
        kind = schema.field(key).type
        plain = kind.value_type if pa.types.is_dictionary(kind) else kind
        types = pa.types
        if not (
            types.is_integer(plain) or types.is_boolean(plain) or types.is_string(plain) or types.is_large_string(plain)
        ):
            raise TypeError(
                f"folders are named by integers, bools, strings and enums; the field {key!r} is {kind}. "
                f"{DAY_AND_HOUR} make folders of the time"
            )
    if not any(key in TIMES for key in keys):
        return Partitioning(keys, None, None)
    path, unit = _time_of(dataset, next(key for key in keys if key in TIMES))
    return Partitioning(keys, path, unit)


def _time_of(dataset: Dataset, key: str) -> tuple[str, str]:
    """The field with the time of the messages of all files, and its unit."""
    found: dict[tuple[str, str], str] = {}
    for number, part in enumerate(dataset._parts):
        head = dataset._head(number)
        if head.table is None:
            continue
        one = head.time
        if one is None:
            raise ValueError(
                f"partition_by={key!r} needs to know the time of messages, and {part.path!r:.200} does not say which "
                "field it is: describe streams with their time, or name columns"
            )
        found.setdefault(one, part.path)
    if len({path for path, _ in found}) > 1 or (len(found) > 1 and dataset._options.times == "number"):
        texts = ", ".join(f"{path} ({unit}) in {where}" for (path, unit), where in found.items())
        raise ValueError(f"partition_by={key!r} needs one field with the time, and there are {texts:.400}")
    if not found:
        # There are no messages, so that no row has a folder.
        return "", "ns"
    return next(iter(found))


def _open_periods(until: Any, layout: Partitioning) -> tuple[int, int] | None:
    """The first of the hours or days that are not over, and the one behind the last that is held back; None: all go."""
    if isinstance(until, str) and until == "now":
        return None
    if isinstance(until, datetime.datetime):
        if until.tzinfo is None:
            raise ValueError(f"until must have a time zone, got {until!r}")
        moment = until.timestamp()
    elif isinstance(until, str) and until == "closed":
        moment = time.time()
    else:
        raise ValueError(f"until must be 'now', 'closed' or a datetime, got {until!r:.100}")
    if not layout.period:
        raise ValueError(f"until={until!r} needs folders by time: partition_by with one of {DAY_AND_HOUR}")
    now = int(moment // layout.period)
    # The clock of a machine may be somewhat ahead. What is farther in the future must not hold back all that follows.
    return now, now + 2


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


class _Run:
    """One run of an export."""

    progress: Callable[[int, int], object] | None = None

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
            raise self.errors[0]
        return self.report

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
        fd = os.open(part.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            sync(fd)
        finally:
            os.close(fd)

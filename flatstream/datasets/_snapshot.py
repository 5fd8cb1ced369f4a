"""The files of a dataset as they were at one moment, what they begin with, and what of each is read for a query."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flatstream._core.base.checks import int_argument
from flatstream._seekable import number_of_threads
from flatstream.checksums import ChecksumType
from flatstream.datasets._heads import Head, Options, read_head, time_said
from flatstream.datasets._parts import Part
from flatstream.datasets._pieces import Position, Stretch, Target, plan_by_index
from flatstream.datasets._predicate import Predicate
from flatstream.datasets._reading import FRAME, FRAME_FIELD, SOURCE_FIELD, SOURCE_FILE, Outcome, Query
from flatstream.datasets._unify import (
    Kind,
    TypeConflictError,
    empty_parts,
    fields_of_table,
    labels_of,
    raise_missing,
    time_of,
    unify,
)
from flatstream.description._schemas import find_time
from flatstream.index import FileIndex, UnusableIndex, load_index

if TYPE_CHECKING:
    from typing import Self

    from flatstream._ranges import RangeFile
    from flatstream.datasets._time_range import TimeRange

__all__ = ["SMALL", "WORTH_AN_INDEX", "Known", "Snapshot"]

# Fewer bytes are read by one thread.
SMALL = 1 << 20
# Of a file of fewer bytes, an index is not read if all of the file is.
WORTH_AN_INDEX = 8 << 20
# How many indexes are kept between questions: each takes about a thousandth of its file.
KEPT_INDEXES = 1000


class _Count:
    """A number that threads add to."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()

    def add(self, more: int) -> None:
        with self._lock:
            self.value += more


@dataclass
class Known:
    """What was found out about files by reading them. Threads share it, and it is of one list of files for ever.

    Attributes
    ----------
    heads, outcomes : dict of int
        Of files by their numbers.
    indexes : dict of int
        By the number of the file, with what tells whether it has changed since.
    kinds, schemas, empty, time_range
        Of all files.
    """

    heads: dict[int, Head] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    indexes: dict[int, tuple[Any, FileIndex]] = field(default_factory=dict)
    kinds: list[Kind] | None = None
    schemas: dict[tuple[str, ...] | None, pa.Schema] = field(default_factory=dict)
    empty: frozenset[str] | None = None
    time_range: list[TimeRange | None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Snapshot:
    """The files, and what was found out about them. `Dataset` adds the questions.

    Parameters
    ----------
    paths : list of str
        What the files were found by.
    options : Options
        How they are read.
    parts : list of Part
        The files.
    kinds : list of Kind, optional
        Those of all files of a larger dataset of which these are some.
    """

    def __init__(self, paths: list[str], options: Options, parts: list[Part], kinds: list[Kind] | None = None) -> None:
        if not isinstance(options, Options):
            raise TypeError("a Dataset is made by flatstream.dataset")
        self._paths = paths
        self._options = options
        # Of all files of a larger dataset of which these are some.
        self._given_kinds = kinds
        self._read_so_far = _Count()
        self._state = parts, Known(kinds=kinds)

    @property
    def _parts(self) -> list[Part]:
        return self._state[0]

    @property
    def _known(self) -> Known:
        return self._state[1]

    def _now(self) -> Self:
        """The same files, for one question: another thread, or the caller between two rows, may refresh this object.

        What is found out is shared, until then.
        """
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_paths": self._paths,
            "_options": self._options,
            "_parts": self._parts,
            "_given_kinds": self._given_kinds,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        Snapshot.__init__(self, state["_paths"], state["_options"], state["_parts"], state["_given_kinds"])

    # The beginnings of files

    def _head(self, number: int) -> Head:
        head = self._known.heads.get(number)
        if head is None:
            guess = next(iter(self._known.heads.values())).checksum if self._known.heads else ChecksumType.XXHASH64
            head = self._known.heads[number] = read_head(self._parts[number], self._options, guess)
        return head

    def _kinds(self) -> list[Kind]:
        """The tables of the files, each with one of them."""
        if self._known.kinds is None:
            found: dict[Any, Kind] = {}
            for number, part in enumerate(self._parts):
                head = self._existing_head(number)
                if head is not None and head.table is not None:
                    kind = Kind(head.table, head.time, part.path)
                    found.setdefault(kind.key, kind)
            _check_tables(list(found.values()), self._options, [part.path for part in self._parts])
            kinds = list(found.values())
            if not kinds and self._options.undescribed is not None:
                table = self._options.undescribed
                kinds = [Kind(table, time_said(table, self._options, find_time(table)), "the arguments")]
            if self._options.time is not None and kinds and all(kind.time is None for kind in kinds):
                raise_missing(kinds, self._options.time[0])
            self._known.kinds = kinds
        return self._known.kinds

    def _existing_head(self, number: int) -> Head | None:
        """The head of a file; None of a segment that retention has removed."""
        try:
            return self._head(number)
        except FileNotFoundError:
            if self._parts[number].kind != "segment":
                raise
            self._known.outcomes.setdefault(number, Outcome()).is_removed = True
            return None

    def _schema(self, fields: tuple[str, ...] | None) -> pa.Schema:
        made = self._known.schemas.get(fields)
        if made is None:
            made = self._known.schemas[fields] = unify(self._kinds(), fields, self._options.times)
        return made

    # Queries

    def _given_schema(self, fields: Iterable[str] | None, source_file: bool, frame: bool) -> pa.Schema:
        schema = self._schema(None if fields is None else tuple(fields))
        for known, is_wanted in ((SOURCE_FIELD, source_file), (FRAME_FIELD, frame)):
            if is_wanted:
                schema = schema.append(known)
        return schema

    def _query(
        self, fields: Iterable[str] | None, where: Any, batch_rows: int, source_file: bool, frame: bool
    ) -> Query:
        if isinstance(fields, (str, bytes)):
            raise TypeError(f"fields must be a list of paths, got {type(fields).__name__}: {fields!r:.100}")
        names = None if fields is None else tuple(fields)
        for name in names or ():
            if not isinstance(name, str):
                raise TypeError(f"a field must be a path, a str, got {type(name).__name__}: {name!r:.100}")
        if names is not None and len(set(names)) < len(names):
            raise ValueError(f"a field is selected twice: {', '.join(names):.200}")
        for what, value in (("source_file", source_file), ("frame", frame)):
            if not isinstance(value, bool):
                raise TypeError(f"{what} must be a bool, got {value!r:.100}")
        schema = self._schema(names)
        predicate = self._predicate(where)
        read = schema
        if predicate is not None and not predicate.is_exact:
            needed: Iterable[str] = sorted(predicate.paths or predicate.listed)
            if predicate.paths is None:
                needed = dict.fromkeys((*self._schema(None).names, *needed))
            extra = [name for name in needed if name not in schema.names and name not in self._extra()]
            if extra:
                read = self._schema((*schema.names, *extra))
        for name, is_wanted in ((SOURCE_FILE, source_file), (FRAME, frame)):
            if is_wanted and name in read.names:
                raise ValueError(
                    f"the messages have a field {name!r}, so that there is no name for the column of {name}=True: "
                    "select other fields"
                )
        batch_rows = int_argument("batch_rows", batch_rows, 1, 2**31 - 1)
        kinds = self._kinds()
        labels = labels_of(kinds, read.names) if len(kinds) > 1 else {}
        return Query(schema, read, predicate, batch_rows, self._options, source_file, frame, labels)

    def _extra(self) -> list[str]:
        """The columns that are no fields of messages."""
        names = self._all_names()
        return [name for name in (SOURCE_FILE, FRAME) if name not in names]

    def _all_names(self) -> list[str]:
        """The names of all columns."""
        return list(dict.fromkeys(name for kind in self._kinds() for name in fields_of_table(kind, None, "number")))

    def _predicate(self, where: Any) -> Predicate | None:
        """What a `where` says."""
        if where is None or isinstance(where, Predicate):
            return where
        schema, conflict = self._askable()
        extra = self._extra()
        for known in (SOURCE_FIELD, FRAME_FIELD):
            if known.name in extra:
                schema = schema.append(known)
        try:
            made = Predicate.of(where, schema, time=time_of(self._kinds()), extra=extra, empty=self._empty())
        except KeyError:
            if conflict is not None:
                raise conflict from None
            raise
        if made is not None:
            made.check(kind.table for kind in self._kinds())
        return made

    def _empty(self) -> frozenset[str]:
        """The paths of tables and structs without fields."""
        if self._known.empty is None:
            self._known.empty = frozenset().union(*map(empty_parts, self._kinds()))
        return self._known.empty

    def _askable(self) -> tuple[pa.Schema, TypeConflictError | None]:
        """The columns that can be asked for: all, or those whose types files agree on, and an error for the others."""
        try:
            return self._schema(None), None
        except TypeConflictError as error:
            fields = []
            for name in self._all_names():
                with contextlib.suppress(TypeConflictError):
                    fields.append(self._schema((name,)).field(0))
            return pa.schema(fields), error

    def _check_that_some_are_left(self) -> None:
        """Raises if retention has removed all segments."""
        if self._parts and all(
            number in self._known.outcomes and self._known.outcomes[number].is_removed
            for number in range(len(self._parts))
        ):
            raise FileNotFoundError(
                errno.ENOENT, "all files of the dataset were removed: refresh() looks for new ones", self._parts[0].path
            )

    def _threads(self, threads: int | None) -> int:
        """How many threads decode, if the caller says so many."""
        if threads is None:
            threads = self._options.threads
        threads = default_threads() if threads is None else int_argument("threads", threads, 1, 1024)
        # They would take longer to begin than to read little.
        return threads if sum(part.size or SMALL for part in self._parts) >= SMALL else 1

    # What is read of a file

    def _note(self, targets: list[Target]) -> None:
        """Counts what was read of files."""
        self._read_so_far.add(sum(target.take_count() for target in targets))

    def _targets(self, made: list[Target]) -> Iterator[Target]:
        for number, part in enumerate(self._parts):
            head = self._existing_head(number)
            if head is not None and head.table is not None:
                made.append(Target(number, part, head))
                yield made[-1]

    def _prepare(
        self,
        query: Query,
        target: Target,
        outcomes: dict[int, Outcome] | None = None,
        *,
        threads: int = 1,
        announce: bool = True,
    ) -> None:
        """Plans what is read of a file, and announces it unless another process will read it."""
        head = target.head
        target.stretches = []
        if not query.columns_of(head, target.part).has_rows:
            return
        try:
            file = target.ranges()
        except FileNotFoundError:
            if target.part.kind != "segment":
                raise
            (self._known.outcomes if outcomes is None else outcomes).setdefault(
                target.number, Outcome()
            ).is_removed = True
            return
        target.is_sequential = head.middle is None or not file.can_seek
        target.stretches = [Stretch(Position(head.begin, 0), None)]
        if target.is_sequential or not self._options.use_index:
            return
        # An index also says where frames begin, so that threads need not look for them.
        if self._may_leave_out(query) or (threads > 1 and file.size >= WORTH_AN_INDEX):
            self._plan_by_index(query, target, file, announce)

    def _may_leave_out(self, query: Query) -> bool:
        """Whether an index can say that a part of a file is not read.

        With "stop", damage there decides whether the rows behind it are given.
        """
        return query.predicate is not None and self._options.on_error != "stop"

    def _plan_by_index(self, query: Query, target: Target, file: RangeFile, announce: bool) -> None:
        """Plans to read only what may have rows, if the file has an index."""
        head = target.head
        assert head.table is not None
        index = self._index(target.number, head, file)
        if isinstance(index, UnusableIndex) or not len(index) or index.begin != head.begin:
            return
        if index.gaps and (query.reads_numbers or self._options.on_error == "skip"):
            # Behind damage, frames are numbered as the policy has it, and by the index as with "resync".
            return
        target.uses_index = True
        if query.predicate is None or not self._may_leave_out(query):
            target.stretches = plan_by_index(target, index, None, file.size)
            return
        may_match = query.predicate.may_match(head.table, index.statistics, index.rows, head.time)
        target.stretches = plan_by_index(target, index, may_match, file.size)
        if announce:
            file.announce(
                (stretch.begin.offset, file.size if stretch.end is None else stretch.end)
                for stretch in target.stretches
            )

    def _index(self, number: int, head: Head, file: RangeFile) -> FileIndex | UnusableIndex:
        """The index of a file, which is kept as long as the file does not change."""
        status = file.status
        key = None if status is None else (status.st_ino, status.st_size, status.st_mtime_ns, file.size)
        known = self._known.indexes.get(number)
        if known is not None and known[0] == key:
            return known[1]
        part = self._parts[number]
        found = load_index(part.path, file, table=head.table, checksum=head.checksum_name)
        if isinstance(found, UnusableIndex):
            # There may be one the next time.
            return found
        with self._known.lock:
            self._known.indexes.pop(number, None)
            self._known.indexes[number] = key, found
            while len(self._known.indexes) > KEPT_INDEXES:
                del self._known.indexes[next(iter(self._known.indexes))]
        return found

    def _find_index(self, number: int) -> FileIndex | UnusableIndex | None:
        """The index of a file; None where none is used."""
        head = self._head(number)
        if head.middle is None or head.table is None or not self._options.use_index:
            return None
        with self._parts[number].open_ranges() as file:
            return self._index(number, head, file) if file.can_seek else None


def default_threads() -> int:
    """How many threads decode by default: as many as there are processors, up to 4."""
    return max(1, number_of_threads())


def _check_tables(kinds: list[Kind], options: Options, paths: list[str]) -> None:
    """Raises for files of different tables, and if no file has the one that is asked for."""
    names = list(dict.fromkeys(kind.table.name for kind in kinds))
    if len(names) > 1:
        first = next(kind for kind in kinds if kind.table.name == names[0])
        other = next(kind for kind in kinds if kind.table.name == names[1])
        raise ValueError(
            f"the messages of {first.path} are of the table {names[0]}, and those of {other.path} of {names[1]}: pass "
            "the name of one as table="
        )
    if not kinds and isinstance(options.table, str) and paths:
        raise LookupError(f"no file of the dataset has messages of a table {options.table!r:.100}")
    if not kinds and paths and options.undescribed is None:
        which = f"{paths[0]} is" if len(paths) == 1 else f"all {len(paths)} files, from {paths[0]} on, are"
        raise ValueError(f"nothing says which columns there are, because {which} empty: pass table= or schema=")

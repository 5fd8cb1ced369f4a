"""How far an export has come: the state file of `Dataset.to_parquet`, and the step that gives new files their names.

An export writes its files in steps. Each step:

1. writes the new files under ``_flatstream/<name>/new/`` and makes them and their folders lasting;
2. makes the sources lasting as far as they were read, so that a power cut does not take back what was exported;
3. replaces ``_flatstream/<name>/state.json`` by one that says how far each source was read, and which files wait for
   their names. From here on the step is done, whatever happens;
4. gives the files their names, which nobody else's files have.

A process that is killed before the third point leaves files that are removed, and the rows are read again. One that is
killed behind it leaves names to be given: the next run gives them first. So each row is in one file, once.

The position of a source is an offset in its plain stream where a frame begins, the number of that frame, and the number
of the first frame that was not exported: reading goes on at the offset, and leaves out the rows in between. Beside it
stand checksums of the first bytes and of the last ones before the offset. By them a file is known again that was
renamed, compressed or sealed, and another one is not taken for it that has its path.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

from flatstream._files import check_new, give_name, open_descriptor, sync, sync_folder
from flatstream._lock import open_for_writing
from flatstream._ranges import RangeFile
from flatstream.checksums import XxHash64

__all__ = ["FOLDER", "Export", "FileState", "JournalState", "NewFile", "State", "fingerprints_of", "head_of"]

# Where the state is, in the folder of the new files. Spark, pyarrow and Dask pass over names that begin with "_".
FOLDER = "_flatstream"
STATE = "state.json"
LOCK = "lock"
NEW = "new"
ENDING = ".parquet"
PARTIAL = ".partial"

FORMAT = 1

# How many bytes a fingerprint covers: a few frames.
COVERED = 4096

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
IDENTITY = re.compile("[0-9a-f]{8}")

HASH = XxHash64()

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True)
class FileState:
    """How far a file was exported.

    Attributes
    ----------
    offset, frame : int
        Where a frame begins in the plain stream, and its number in the file.
    next : int
        The number of the first frame that was not exported, at least `frame`.
    head, tail : str
        The checksums of the first and of the last bytes before `offset`, at most 4096; "" if it is not known.
    size, mtime_ns : int
        Of the file as it is stored, before it was read to its end; -1 if it was not, or if a file has no such values.
    """

    offset: int = 0
    frame: int = 0
    next: int = 0
    head: str = ""
    tail: str = ""
    size: int = -1
    mtime_ns: int = -1

    @property
    def covered(self) -> int:
        """How many bytes each of the checksums covers."""
        return min(COVERED, self.offset)


@dataclass(frozen=True)
class JournalState:
    """How far a journal was exported.

    Attributes
    ----------
    id : str or None
        The journal's.
    segment : int
        The number of the first frame of the segment that is read. Those before it are done.
    file : FileState
        How far that segment was.
    """

    id: str | None
    segment: int
    file: FileState

    @property
    def next(self) -> int:
        """The number of the first frame that was not exported."""
        return self.segment + self.file.next


@dataclass
class State:
    """The content of the state file.

    Attributes
    ----------
    id : str
        Eight hexadecimal digits, which stand in the names of all files.
    options : dict
        What must be the same each time.
    files_made, rows : int
        How many files and rows there were so far.
    files : dict of FileState
        By the path of the file.
    journals : dict of JournalState
        By the path of the folder.
    waiting : list of (str, str)
        The files of the last step that may not have their names yet: the name in the folder of new files, and the path
        in the folder of the export.
    """

    id: str
    options: dict[str, Any]
    files_made: int = 0
    rows: int = 0
    files: dict[str, FileState] = field(default_factory=dict)
    journals: dict[str, JournalState] = field(default_factory=dict)
    waiting: list[tuple[str, str]] = field(default_factory=list)

    def to_bytes(self) -> bytes:
        """The file."""
        content = {
            "format": FORMAT,
            "id": self.id,
            "options": self.options,
            "files_made": self.files_made,
            "rows": self.rows,
            "waiting": self.waiting,
            "files": {path: asdict(one) for path, one in self.files.items()},
            "journals": {path: asdict(one) for path, one in self.journals.items()},
        }
        # A state that is not whole must not be taken for one: it decides which rows are read.
        return json.dumps({"checksum": _hash_of(content)} | content, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> State:
        """What `to_bytes` made.

        Raises
        ------
        ValueError
            It is damaged, or a later version made it.
        """
        try:
            content = json.loads(data)
            if content.pop("checksum") != _hash_of(content):
                raise ValueError("its checksum does not fit")
            version = content["format"]
            if version == FORMAT:
                return cls(
                    content["id"],
                    content["options"],
                    content["files_made"],
                    content["rows"],
                    {path: FileState(**one) for path, one in content["files"].items()},
                    {
                        path: JournalState(one["id"], one["segment"], FileState(**one["file"]))
                        for path, one in content["journals"].items()
                    },
                    [(new, path) for new, path in content["waiting"]],
                )
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"it is not complete: {error!r:.100}") from None
        raise ValueError(f"it has the format {version!r:.20}, and this version of flatstream reads format {FORMAT}")


class NewFile(NamedTuple):
    """A file of the step that is being written.

    Attributes
    ----------
    path : str
        Where it is written.
    folder : str
        The path of its folder in that of the export, as ``date=2026-11-29/hour=13``; "" for none.
    name : str
        The name that it gets there.
    """

    path: str
    folder: str
    name: str


class Export:
    """The state of the export `name` in a folder, locked. A context manager.

    Opening it finishes the step of a run that was killed, and removes the files of a step that was not done.

    Parameters
    ----------
    directory : str
        The folder of the new files, which is made if it is not there.
    name : str
        Several exports can put files into the same folder, each with its own name.
    options : dict
        What must be the same in each run, as values of JSON.
    resume : bool
        False: there must be no state yet.

    Attributes
    ----------
    state : State
        As the state file has it, or a new one.
    finished : int
        How many files got their names that a run that was killed had left.
    is_new : bool
        Whether no run has exported anything so far.

    Raises
    ------
    ValueError
        `name` is no name; the options are others than before; the state is damaged.
    FileExistsError
        There is a state, and `resume` is False; or there are files of this export, and no state.
    OSError
        EBUSY: another process runs this export. Others: the folder cannot be written.
    """

    def __init__(self, directory: str, name: str, options: dict[str, Any], *, resume: bool = True) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                'the name of an export must have letters of ASCII, digits, "_", "-" and "." only, begin with a letter '
                f"or a digit, and have at most 100 characters, got {name!r:.120}"
            )
        self.directory = directory = os.path.abspath(directory)
        self.name = name
        self.folder = os.path.join(directory, FOLDER, name)
        self.new = os.path.join(self.folder, NEW)
        self.path = os.path.join(self.folder, STATE)
        self.finished = 0
        self.is_new = False
        # Folders that this process has made lasting.
        self._lasting: set[str] = set()
        # Whether the state file may be another one than `state`: then no file is removed.
        self._is_uncertain = False
        options = json.loads(json.dumps(options))
        self._make_lasting(self.new)
        # Kept open, and locked, until the end.
        self._lock = _locked(os.path.join(self.folder, LOCK))
        try:
            found = self._load()
            if found is None:
                self._check_no_files()
                self.state = State(secrets.token_hex(4), options)
                self.is_new = True
            else:
                if not resume:
                    raise FileExistsError(
                        errno.EEXIST, "there is an export in this folder, with which resume=True goes on", self.path
                    )
                self.state = found
                self._check_options(options)
                self._give_names()
            self._remove_unfinished()
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes what was not finished, and ends the lock."""
        if not self._lock.closed:
            try:
                # Those that wait for their names are needed.
                if not self.state.waiting and not self._is_uncertain:
                    self._remove_unfinished()
            finally:
                self._lock.close()

    def _load(self) -> State | None:
        try:
            with open(self.path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        try:
            found = State.from_bytes(data)
            if not isinstance(found.id, str) or not IDENTITY.fullmatch(found.id):
                raise ValueError("it has no identity")
        except ValueError as error:
            raise ValueError(
                f"{self.path} does not say how far the export has come: {error}. Without it, rows would be exported "
                "twice: bring it back from a copy, or begin another export in another folder"
            ) from None
        return found

    def _check_options(self, options: dict[str, Any]) -> None:
        known = self.state.options
        for key in sorted(known.keys() | options.keys()):
            if known.get(key) != options.get(key):
                raise ValueError(
                    f"this export was begun with {_argument(key, known.get(key))}, and cannot go on with "
                    f"{_argument(key, options.get(key))}: export into another folder, from the beginning ({self.path})"
                )

    def others(self) -> Iterator[tuple[str, State]]:
        """The names and states of the other exports in the folder, without those that cannot be read."""
        for name in sorted(os.listdir(os.path.dirname(self.folder))):
            if name != self.name:
                with contextlib.suppress(OSError, ValueError):
                    with open(os.path.join(os.path.dirname(self.folder), name, STATE), "rb") as file:
                        data = file.read()
                    yield name, State.from_bytes(data)

    def _check_no_files(self) -> None:
        """Raises FileExistsError if there are files of an export with this name, whose state is lost."""
        mine = re.compile(rf"{re.escape(self.name)}-[0-9a-f]{{8}}-[0-9]+{re.escape(ENDING)}")
        for folder, folders, names in os.walk(self.directory):
            folders[:] = [one for one in folders if not one.startswith(("_", "."))]
            for one in names:
                if mine.fullmatch(one):
                    raise FileExistsError(
                        errno.EEXIST,
                        f"a file of the export {self.name!r} whose state ({self.path}) is lost, so that rows would be "
                        "exported twice: bring it back from a copy, or begin another export in another folder",
                        os.path.join(folder, one),
                    )

    def _remove_unfinished(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.path}.new")
        for one in os.listdir(self.new):
            if one.endswith(PARTIAL):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.new, one))

    # A step

    def new_file(self, folder: str) -> NewFile:
        """A name for a file that is to stand in `folder`, which nobody else's file has. Nothing is made."""
        number = self.state.files_made
        name = f"{self.name}-{self.state.id}-{number:08d}{ENDING}"
        check_new(os.path.join(self.directory, folder, name))
        self.state.files_made = number + 1
        return NewFile(os.path.join(self.new, name + PARTIAL), folder, name)

    def commit(
        self,
        made: Iterable[NewFile],
        rows: int,
        files: dict[str, FileState],
        journals: dict[str, JournalState],
    ) -> None:
        """Ends a step: see the top of this module.

        Parameters
        ----------
        made : iterable of NewFile
            Complete files, closed.
        rows : int
            How many rows they have.
        files, journals : dict
            How far sources were read; others stay as they were. Their bytes are lasting.

        Raises
        ------
        OSError
            The state file is as it was, and the step is not done; or, with `state.waiting`, it is done, and files wait
            for their names.
        """
        made = list(made)
        for one in made:
            # If there can be no such folder, that is found while the step does not count.
            self._make_lasting(os.path.dirname(os.path.join(self.directory, one.folder, one.name)))
            _sync_file(one.path)
        if made:
            sync_folder(made[0].path)
        before = self.state
        after = State(
            before.id,
            before.options,
            before.files_made,
            before.rows + rows,
            before.files | files,
            before.journals | journals,
            [(os.path.basename(one.path), os.path.join(one.folder, one.name)) for one in made],
        )
        self._store(after)
        self._give_names()

    def forget(self, files: Iterable[str], journals: Iterable[str]) -> None:
        """Leaves out the sources at these paths, which are known by another path now. The next `commit` stores it."""
        for path in files:
            self.state.files.pop(path, None)
        for path in journals:
            self.state.journals.pop(path, None)

    def _give_names(self) -> None:
        """Gives the files that wait their names, and stores that none waits any more."""
        if not self.state.waiting:
            return
        for new, path in self.state.waiting:
            self._make_lasting(os.path.dirname(os.path.join(self.directory, path)))
            self.finished += _give_one(os.path.join(self.new, new), os.path.join(self.directory, path))
        self._store(replace(self.state, waiting=[]))

    def _store(self, state: State) -> None:
        """Replaces the state file, so that it has either its old content or the new one, and is on the disk then."""
        new = f"{self.path}.new"
        with open(new, "wb") as file:
            file.write(state.to_bytes())
            file.flush()
            sync(file.fileno())
        self._is_uncertain = True
        os.replace(new, self.path)
        sync_folder(self.path)
        self.state = state
        self._is_uncertain = False

    def _make_lasting(self, folder: str) -> None:
        """Makes a folder, if there is none, and its name lasting, and so those above it."""
        if folder in self._lasting or not folder:
            return
        parent = os.path.dirname(folder)
        if not os.path.isdir(parent) or folder != self.directory:
            self._make_lasting(parent)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise NotADirectoryError(
                    errno.ENOTDIR, "an export to Parquet makes a folder here, and there is a file", folder
                ) from None
        # Also of one that is there: whoever made it may have been killed before this.
        sync_folder(folder)
        self._lasting.add(folder)


def _argument(key: str, value: Any) -> str:
    """An option as it is given; None as its absence."""
    return f"no {key}=" if value is None else f"{key}={value!r:.200}"


def _locked(path: str) -> io.FileIO:
    """The file that a run keeps open and locked."""
    try:
        return open_for_writing(path, "ab")
    except OSError as error:
        if error.errno == errno.EBUSY and error.strerror is not None:
            error.strerror = error.strerror.replace("another writer has the file open", "another run of it is at work")
        if error.errno in NO_LOCKS:
            text = (
                f"the file system has no locks ({os.strerror(error.errno)}), by which a run sees that another one runs"
            )
            raise OSError(error.errno, text, path) from error
        raise


def _give_one(new: str, path: str) -> int:
    """Gives a file its name, unless it has it already. Returns whether it had not."""
    try:
        mine = os.stat(new)
    except FileNotFoundError:
        # It has its name since the last time; it may even have been removed since.
        return 0
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        give_name(new, path)
        return 1
    if os.path.samestat(mine, there):
        # A link, of which the old name was not removed.
        sync_folder(path)
        os.unlink(new)
        return 0
    if there.st_size == 0:
        # Where there are no links, an empty file holds the name until it is given.
        os.replace(new, path)
        sync_folder(path)
        return 1
    raise FileExistsError(errno.EEXIST, "another file has the name of a new one of the export", path)


def _sync_file(path: str) -> None:
    fd = open_descriptor(path, os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        sync(fd)
    finally:
        os.close(fd)


# Fingerprints


def _hash(data: bytes) -> str:
    return f"{HASH.calculate(data):016x}"


def _hash_of(content: dict[str, Any]) -> str:
    return _hash(json.dumps(content, sort_keys=True).encode())


def fingerprints_of(file: RangeFile, offset: int, *, with_tail: bool) -> tuple[str, str]:
    """The checksums of the first bytes of a stream and of the last ones before `offset`.

    They are "" if the stream has not so many bytes; and the second one without `with_tail`.
    """
    covered = min(COVERED, offset)
    head = file.read_at(0, covered)
    if len(head) < covered:
        return "", ""
    if not with_tail:
        return _hash(head), ""
    tail = file.read_at(offset - covered, covered)
    return _hash(head), _hash(tail) if len(tail) == covered else ""


def head_of(file: RangeFile, covered: int) -> str:
    """The checksum of so many first bytes; "" if there are fewer."""
    data = file.read_at(0, covered)
    return _hash(data) if len(data) == covered else ""

"""The files of a journal's folder: their names, and the file `journal.json`.

A segment is a plain stream of frames. Its name is the number of its first frame, so that the names alone say in which
segment a frame is. One that ended may be compressed: then its name ends with ``.fs.zst``, and `journal.json` has it
under the name of the plain one. While both files are there, the plain one is the segment. The index of a segment
(`flatstream.index`) has the name of the plain file and ``.idx`` behind it. It is never needed, and can be made again.

`journal.json` has the identity of the journal, its checksum, and the segments that are sealed:
those that nobody writes any more and that are on the disk. Its loss loses no frame: the checksum can be found by
`flatstream.detect`, and segments that are not known to be sealed are read once more when the journal is opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flatstream._files import open_regular, sync, sync_folder
from flatstream._index_hook import SUFFIX as ENDING_OF_INDEX
from flatstream._lock import open_for_writing
from flatstream.errors import FlatStreamError
from flatstream.journal.cursor import Cursor

__all__ = [
    "COMPRESSED",
    "CURSORS",
    "IDENTITY",
    "INDEX",
    "INDEX_NAME",
    "LOCK",
    "MANIFEST",
    "UNFINISHED",
    "UNFINISHED_NAME",
    "Manifest",
    "Sealed",
    "Segment",
    "cursor_path",
    "files_of_segment",
    "index_path",
    "list_cursors",
    "list_segments",
    "list_tails",
    "lost_segments",
    "may_be_of_journal",
    "read_cursor",
    "read_manifest",
    "segment_name",
    "segment_path",
    "segments_behind",
    "tails_of_segment",
    "time_of_cursors",
    "write_atomically",
    "write_manifest",
]

MANIFEST = "journal.json"
LOCK = "writer.lock"
CURSORS = "cursors"
SUFFIX = ".fs"
# What is added to the name of a compressed segment, and behind that of one that is being made.
COMPRESSED = ".zst"
UNFINISHED = ".partial"
# What is added to the name of the plain segment for its index.
INDEX = ENDING_OF_INDEX
CURSOR_SUFFIX = ".cursor"
# In the name of a tail that was cut off a segment.
TAIL = f"{SUFFIX}.torn-"

# As many digits as the largest number of 64 bits has, so that names sort as numbers. The first one is always 0: there
# must be room for the numbers behind a segment.
DIGITS = 20
SEGMENT_NAME = re.compile(rf"(0[0-9]{{{DIGITS - 1}}}){re.escape(SUFFIX)}(?:{re.escape(COMPRESSED)})?")
# Also of one that was not complete when its process was killed.
INDEX_NAME = re.compile(rf"(0[0-9]{{{DIGITS - 1}}}){re.escape(SUFFIX + INDEX)}(?:\.partial-[0-9]+(?:\.[0-9]+)?)?")
UNFINISHED_NAME = re.compile(rf"0[0-9]{{{DIGITS - 1}}}{re.escape(SUFFIX + COMPRESSED + UNFINISHED)}")
# A name that is one file in the folder on every system.
CURSOR_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")

# The identity of a journal.
IDENTITY = re.compile("[0-9a-f]{32}")

FORMAT = 1

# A folder that was changed before so many nanoseconds may be changing now.
RECENT = 1_000_000_000


class Segment(NamedTuple):
    """A file of frames.

    Attributes
    ----------
    path : str
        The file.
    first : int
        The number of its first frame.
    """

    path: str
    first: int

    @property
    def name(self) -> str:
        """The name of the plain file, by which `journal.json` knows it."""
        return segment_name(self.path)

    @property
    def plain_path(self) -> str:
        """The path of the plain file."""
        return self.path.removesuffix(COMPRESSED)

    @property
    def is_compressed(self) -> bool:
        """Whether `path` is that of a compressed file."""
        return self.path.endswith(COMPRESSED)


class Sealed(NamedTuple):
    """What is known of a segment that nobody writes any more and that is on the disk.

    Attributes
    ----------
    frames : int
        How many intact frames it has.
    bytes : int
        Its size.
    next : int
        The number of the frame behind its last one.
    began, ended : float
        When the segment was begun, and when its last frame was handed to the system, in seconds since 1970, by the
        clock of the writer.
    damaged : bool
        Whether bytes were found in it that are no frame.
    """

    frames: int
    bytes: int
    next: int
    began: float
    ended: float
    damaged: bool = False


@dataclass
class Manifest:
    """The content of `journal.json`.

    Attributes
    ----------
    id : str
        32 hexadecimal digits that no other journal has.
    checksum : str or None
        The value of the ChecksumType; None for a checksum or framer of one's own.
    sealed : dict
        By the name of the file. Some of these files can be lost: see `lost_segments`.
    begun : dict
        When other segments were begun, in seconds since 1970, by the name of the file.
    compressed : dict
        The size of the compressed file of a sealed segment, by the name of the plain file.
    """

    id: str
    checksum: str | None
    sealed: dict[str, Sealed] = field(default_factory=dict)
    begun: dict[str, float] = field(default_factory=dict)
    compressed: dict[str, int] = field(default_factory=dict)


def segment_name(path: str) -> str:
    """The name by which `journal.json` knows a segment: that of its plain file."""
    return os.path.basename(path).removesuffix(COMPRESSED)


def segment_path(directory: str, first: int) -> str:
    """The path of the segment that begins with the frame `first`."""
    return os.path.join(directory, f"{first:0{DIGITS}d}{SUFFIX}")


def list_segments(directory: str) -> list[Segment]:
    """The segments in a folder, in the order of their frames.

    Raises
    ------
    OSError
        The folder cannot be read.
    """
    return segments_behind(directory, "")


def segments_behind(directory: str, name: str) -> list[Segment]:
    """The segments in a folder whose plain files have greater names than `name`, in the order of their frames."""
    # Only these names are looked at closely: a folder can have thousands.
    found: dict[str, str] = {}
    for one in sorted(_names_in(directory)):
        if one > name and one.removesuffix(COMPRESSED) != name and SEGMENT_NAME.fullmatch(one):
            # A plain file comes before the compressed one.
            found.setdefault(one[:DIGITS], one)
    return [Segment(os.path.join(directory, one), int(first)) for first, one in found.items()]


def _names_in(directory: str) -> set[str]:
    """The names in a folder. A listing can miss a segment that is compressed meanwhile: the new file because it came
    later, the old one because it is gone. So a folder that changes is listed twice.
    """
    before = os.stat(directory).st_mtime_ns
    names = set(os.listdir(directory))
    # The time of a change has the resolution of the system's clock tick.
    if abs(time.time_ns() - before) < RECENT or os.stat(directory).st_mtime_ns != before:
        names.update(os.listdir(directory))
    return names


def may_be_of_journal(name: str) -> bool:
    """Whether a file or folder with this name can be one of a journal, or of one that is just being made."""
    return name.startswith((MANIFEST, LOCK, CURSORS)) or SEGMENT_NAME.match(name) is not None


def lost_segments(manifest: Manifest, segments: Iterable[Segment]) -> dict[str, Sealed]:
    """The sealed segments that have no file any more, although an older one has, by the name of the file.

    Retention removes the oldest segments first, so something else took these.

    Parameters
    ----------
    manifest : Manifest
    segments : iterable of Segment
        Those that the folder has, as a listing says that is not older than `manifest`.
    """
    names = {segment.name for segment in segments}
    oldest = min(names, default="")
    return {
        name: one
        for name, one in sorted(manifest.sealed.items())
        if one.frames and name > oldest and name not in names and SEGMENT_NAME.fullmatch(name)
    }


def list_tails(directory: str) -> list[str]:
    """The names of all tails in a folder that were cut off segments."""
    return sorted(name for name in os.listdir(directory) if TAIL in name)


def index_path(segment: Segment) -> str:
    """The path of the index of a segment, also of a compressed one."""
    return segment.plain_path + INDEX


def tails_of_segment(segment: Segment, tails: list[str] | None = None) -> list[str]:
    """The paths of the tails that were cut off a segment.

    `tails` is the list of all tails, by default read from the folder. (Which takes long if it has thousands of files.)
    """
    folder, base = os.path.split(segment.plain_path)
    if tails is None:
        tails = list_tails(folder)
    return [os.path.join(folder, name) for name in tails if name.startswith(base + TAIL[len(SUFFIX) :])]


def files_of_segment(segment: Segment, tails: list[str] | None = None) -> list[str]:
    """The paths of the files that belong to a segment: tails that were cut off it, its index, and last itself, which
    can be two files, of which one exists. `tails` as for `tails_of_segment`.
    """
    plain = segment.plain_path
    return [*tails_of_segment(segment, tails), index_path(segment), plain + COMPRESSED, plain]


def read_manifest(directory: str) -> Manifest | None:
    """The content of `journal.json`; None if the file does not exist, or is not one that this version writes.

    Raises
    ------
    FlatStreamError
        A later version wrote it.
    OSError
        It cannot be read.
    """
    path = os.path.join(directory, MANIFEST)
    try:
        with open_regular(path) as file:
            content = json.loads(file.read())
        if content["format"] != FORMAT:
            raise FlatStreamError(
                f"{path} has the format {content['format']!r:.20}, and this version of flatstream reads format {FORMAT}"
            )
        return _manifest_of(content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        # Damaged. What it says can be found again.
        return None


def _manifest_of(content: dict[str, Any]) -> Manifest:
    identity, checksum = content["id"], content["checksum"]
    if not isinstance(identity, str) or not IDENTITY.fullmatch(identity):
        raise ValueError("no identity")
    if checksum is not None and not isinstance(checksum, str):
        raise ValueError("no checksum")
    sealed = {}
    for name, values in content["sealed"].items():
        one = Sealed(**values)
        if not all(type(number) is int and number >= 0 for number in one[:3]):
            raise ValueError("not a number")
        sealed[name] = one._replace(began=float(one.began), ended=float(one.ended), damaged=bool(one.damaged))
    begun = {str(name): float(time) for name, time in content.get("begun", {}).items()}
    compressed = {str(name): int(size) for name, size in content.get("compressed", {}).items()}
    return Manifest(identity, checksum, sealed, begun, compressed)


def write_manifest(directory: str, manifest: Manifest) -> None:
    """Replaces `journal.json`. Returns when that is on the disk."""
    # A line for each segment: there may be a hundred thousand, and the encoder of the standard library is slow when it
    # indents, and keeps other threads from running when it does not.
    sealed = ",".join(
        f"\n  {json.dumps(name)}: {json.dumps(one._asdict())}" for name, one in sorted(manifest.sealed.copy().items())
    )
    text = (
        f'{{\n "format": {FORMAT},\n "id": {json.dumps(manifest.id)},\n "checksum": {json.dumps(manifest.checksum)},\n'
        f' "sealed": {{{sealed}\n }},\n "begun": {json.dumps(manifest.begun)}'
    )
    if manifest.compressed:
        # Versions that do not know compressed segments pass over this.
        sizes = ",".join(f"\n  {json.dumps(name)}: {size}" for name, size in sorted(manifest.compressed.copy().items()))
        text += f',\n "compressed": {{{sizes}\n }}'
    text += "\n}\n"
    write_atomically(os.path.join(directory, MANIFEST), text.encode())


def write_atomically(path: str, data: bytes) -> None:
    """Writes a file so that it has either its old content or the new one, whenever the work ends. Returns when the new
    content is on the disk.

    Raises
    ------
    OSError
        The file has its old content. EBUSY: another thread or process writes it now.
    """
    new = f"{path}.new"
    # Locked, so that of two who write it each one replaces it with what itself has written.
    with open_for_writing(new, "wb", regular=True) as file:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(file.fileno(), view) :]
            sync(file.fileno())
            if sys.platform == "win32":
                # An open file cannot be renamed there.
                file.close()
            os.replace(new, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
    sync_folder(path)


def cursor_path(directory: str, name: str) -> str:
    """The path of the cursor file of a registered reader.

    Raises
    ------
    TypeError, ValueError
        `name` is no str, or not a name of letters, digits, "_", "-" and ".", of at most 100 characters.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a reader must be a str, got {name!r:.100}")
    if not CURSOR_NAME.fullmatch(name):
        raise ValueError(
            'the name of a reader must have letters of ASCII, digits, "_", "-" and "." only, begin with none of the '
            f"last two, and have at most 100 characters, got {name!r:.120}"
        )
    return os.path.join(directory, CURSORS, name + CURSOR_SUFFIX)


def read_cursor(path: str) -> Cursor | None:
    """The cursor in a file; None if there is no such file.

    Raises
    ------
    ValueError
        The file holds no cursor.
    """
    try:
        with open_regular(path) as file:
            text = file.readall().decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    try:
        return Cursor.parse(text)
    except ValueError as error:
        raise ValueError(f"{path} holds no cursor: {error}") from None


def list_cursors(directory: str, unreadable: list[str] | None = None) -> dict[str, Cursor]:
    """The cursors of the registered readers, by name. A file that holds no cursor is left out; and one that cannot be
    read, whose name is appended to `unreadable`.
    """
    found = {}
    try:
        names = os.listdir(os.path.join(directory, CURSORS))
    except FileNotFoundError:
        return {}
    for name in sorted(names):
        stem = name.removesuffix(CURSOR_SUFFIX)
        if stem == name or not CURSOR_NAME.fullmatch(stem):
            continue
        try:
            if (cursor := read_cursor(cursor_path(directory, stem))) is not None:
                found[stem] = cursor
        except (ValueError, IsADirectoryError):
            continue
        except OSError:
            if unreadable is not None:
                unreadable.append(stem)
    return found


def time_of_cursors(directory: str) -> int | None:
    """When a cursor file was last written or removed, in nanoseconds; None if there never was one."""
    try:
        return os.stat(os.path.join(directory, CURSORS)).st_mtime_ns
    except FileNotFoundError:
        return None

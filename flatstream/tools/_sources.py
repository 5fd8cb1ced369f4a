"""The streams that a tool reads: paths, folders of journals, and readers of the caller."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream._core.framing.transform import restores_payloads
from flatstream.checksums import Checksum, ChecksumType, NoChecksum, as_checksum
from flatstream.description.description import checksum_name
from flatstream.framing import Deframer, checksum_of, deframer_for
from flatstream.reader import StreamReader
from flatstream.tools._fields import field_at
from flatstream.tools._times import MessageTimes, TimeField, guess_time_field, time_field
from flatstream.tools.inputs import Input, expand, pick_table
from flatstream.transforms.described import CipherOfDescription, encrypted_error, is_encrypted

if TYPE_CHECKING:
    from flatstream.description import Description, Transform
    from flatstream.reader import _OnError
    from flatstream.schema import Table

__all__ = [
    "SourceReport",
    "SourceStream",
    "check_single",
    "common_checksum",
    "common_description",
    "common_transforms",
    "metadata_left_out",
    "open_sources",
    "times_of",
]


@dataclass(frozen=True)
class SourceReport:
    """What a tool read from one source.

    Attributes
    ----------
    name : str
        The path.
    frames : int
        The number of messages that were read.
    lost_ranges : tuple of (int, int)
        The stream offsets, in bytes, between which nothing could be read because of damage. Always empty if damage is
        raised.
    """

    name: str
    frames: int
    lost_ranges: tuple[tuple[int, int], ...] = ()

    @property
    def lost_bytes(self) -> int:
        """How many bytes could not be read."""
        return sum(end - begin for begin, end in self.lost_ranges)

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {
            "name": self.name,
            "frames": self.frames,
            "lost_bytes": self.lost_bytes,
            "lost_ranges": [list(lost) for lost in self.lost_ranges],
        }


class SourceStream:
    """One source while it is read."""

    def __init__(self, name: str, reader: StreamReader, *, is_empty: bool = False) -> None:
        self.name = name
        self.reader = reader
        # An empty file has any checksum, and any description.
        self.is_empty = is_empty
        self.checksum = checksum_of(reader.deframer)
        # Known when the description was read.
        self.transforms = () if self.description is None else self.description.transforms
        self.is_transformed = restores_payloads(reader.deframer)
        # Reads a batch of frames once more, for nothing but their payloads.
        self.plain: Deframer | None = None
        if self.checksum is not None and not self.is_transformed:
            self.plain = deframer_for(self.checksum).with_max_frame_len(2**32 - 1)
        self.before = reader.frames_read

    @property
    def description(self) -> Description | None:
        return self.reader.description

    def report(self) -> SourceReport:
        """What was read of it until now."""
        return SourceReport(self.name, self.reader.frames_read - self.before, tuple(self.reader.lost_ranges))


class _NoKey(CipherOfDescription):
    """The answer to an encrypted source."""

    def cipher_for(self, transform: Any) -> Any:
        """Raises InvalidFrameError."""
        raise encrypted_error(
            transform,
            "its frames belong to their places in it, and cannot be put into another stream; convert with its key "
            "makes a stream of it that is not encrypted",
        )


@contextlib.contextmanager
def open_sources(
    sources: Iterable[Any], checksum: Checksum | ChecksumType | str | None, on_error: _OnError
) -> Iterator[list[SourceStream]]:
    """Opens the sources of a tool, and closes at the end those that are paths.

    Raises
    ------
    TypeError
        A source is none of a path, an Input and a StreamReader.
    OSError, FlatStreamError
        A source cannot be opened, or its checksum cannot be found out.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for source in sources:
            if isinstance(source, StreamReader):
                if source._is_following:
                    raise ValueError(f"a stream that is followed has no end: {source!r:.100}")
                opened.append(SourceStream(_name_of(source), source))
                continue
            if not isinstance(source, (str, os.PathLike, Input)):
                raise TypeError(f"expected a path, an Input or a StreamReader, got {source!r:.100}")
            for one in [source] if isinstance(source, Input) else expand([source]):
                found = stack.enter_context(one.open(checksum, cipher=_NoKey(), on_error=on_error))
                opened.append(SourceStream(one.name, found.reader, is_empty=found.found_by == "empty file"))
        yield opened


def check_single(sources: list[SourceStream]) -> None:
    """Raises ValueError if a path stands for several streams."""
    if len(sources) != 1:
        raise ValueError(f"expected one stream, got {len(sources)}: {', '.join(each.name for each in sources)[:200]}")


def _name_of(reader: StreamReader) -> str:
    name = getattr(reader.source, "name", reader.source)
    return str(os.fspath(name)) if isinstance(name, (str, os.PathLike)) else f"{reader!r:.60}"


def common_checksum(sources: list[SourceStream], wanted: Checksum | ChecksumType | str | None) -> Checksum:
    """The checksum of what is written: the wanted one, or that of all sources.

    Raises
    ------
    ValueError
        None is wanted, and the sources have different ones, or frames of a format that only their deframer knows.
    """
    if wanted is not None:
        return as_checksum(wanted)
    known = [source for source in sources if not source.is_empty]
    if not known:
        return NoChecksum()
    first = known[0]
    for source in known:
        if source.checksum is None:
            raise ValueError(
                f"{source.name} has frames of a deframer's own: say the checksum to write with to_checksum"
            )
        assert first.checksum is not None
        if (type(source.checksum), source.checksum.name) != (type(first.checksum), first.checksum.name):
            raise ValueError(
                f"{first.name} has the checksum {checksum_name(first.checksum)} and {source.name} has "
                f"{checksum_name(source.checksum)}: say the one to write with to_checksum"
            )
    assert first.checksum is not None
    return first.checksum


def common_transforms(sources: list[SourceStream]) -> tuple[Transform, ...]:
    """What is done to the payloads of what is written: what was done to those of all sources, and nothing if they
    differ.

    Raises
    ------
    ValueError
        A source is encrypted: a file with its messages would not be. Or its reader gives what is stored.
    """
    known = [source for source in sources if not source.is_empty]
    for source in known:
        if source.transforms and not source.is_transformed:
            raise ValueError(f"{source.name} is read with a deframer that does not undo what its description says")
        if is_encrypted(source.description):
            raise ValueError(f"{source.name} is encrypted, and the new file would not be: use a reader and a writer")
    first = known[0].transforms if known else ()
    return first if all(source.transforms == first for source in known) else ()


def common_description(
    sources: list[SourceStream], checksum: Checksum, table: Table | str | None
) -> Description | None:
    """The description that goes on with the messages of all sources; None if none has one.

    Of the metadata, what all have in common is kept. It says no transforms: the writer adds its own.

    Raises
    ------
    ValueError
        The descriptions are of different schemas or tables; or some sources have one and others have none, and no
        table says that all have the same messages.
    """
    described = [(source.name, source.description) for source in sources if source.description is not None]
    if not described:
        return None
    name, first = described[0]
    assert first is not None
    first = first.with_checksum(checksum)._with_transforms(())
    metadata = dict(first.metadata)
    for other_name, other in described[1:]:
        assert other is not None
        if not first.matches(other.with_checksum(checksum)._with_transforms(())):
            raise ValueError(f"{name} and {other_name} do not describe themselves as streams of the same messages")
        metadata = {key: value for key, value in metadata.items() if other.metadata.get(key) == value}
    without = next((source.name for source in sources if source.description is None and not source.is_empty), None)
    if table is None and without is not None:
        raise ValueError(f"{name} describes itself and {without} does not: say the table of both")
    return first if metadata == first.metadata else first._replaced(metadata=metadata)


def metadata_left_out(sources: list[SourceStream], description: Description | None) -> tuple[str, ...]:
    """The keys of metadata that some sources have, and that are not in the description of what is written.

    Without those by which a journal knows its segments.
    """
    kept = {} if description is None else description.metadata
    known = {key for source in sources if source.description is not None for key in source.description.metadata}
    return tuple(sorted(key for key in known - kept.keys() if not key.startswith("journal.")))


def times_of(sources: list[SourceStream], table: Table | str | None, time: Any, what: str) -> MessageTimes:
    """The times of the messages of all sources.

    Raises
    ------
    ValueError
        There is no table, or no field with the time in it is known.
    """
    description = next((source.description for source in sources if source.description is not None), None)
    tables: dict[str, Table] = {} if description is None else dict(description.tables)
    if isinstance(table, str):
        found = pick_table(tables, None if description is None else description.schema, table)
        assert found is not None
        tables = {"": found}
    elif table is not None:
        tables = {"": table}
    elif not tables:
        raise ValueError(
            f"{what} by time needs a schema, and {sources[0].name} does not describe itself: say the table"
        )
    fields = {}
    for identifier, each in tables.items():
        if isinstance(time, str) and len(tables) > 1 and field_at(each, time.partition(":")[0]) is None:
            # Another table may have it.
            continue
        field = _time_field_of(each, time, description)
        if field is not None:
            fields[identifier] = (each, field)
    if not fields:
        names = " and ".join(each.name for each in tables.values())
        known = "none is known" if time is None else f"there is no {time}"
        raise ValueError(f"{what} by time needs a time field, and {known} in {names}: say the field, as 'name:unit'")
    return MessageTimes(fields, next(iter(fields.values())) if len(tables) == 1 else None)


def _time_field_of(table: Table, time: Any, description: Description | None) -> TimeField | None:
    if time is not None:
        return time_field(table, time)
    if description is not None:
        for root in description.roots:
            if root.table == table.name and root.time_field:
                return TimeField(root.time_field, str(root.time_unit))
    return guess_time_field(table)

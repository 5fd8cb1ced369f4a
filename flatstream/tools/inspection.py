"""`info`: what a file, journal or pipe is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from flatstream._index_hook import SUFFIX
from flatstream._lock import who_writes
from flatstream._remote import remote_of
from flatstream.checksums import Checksum, ChecksumType
from flatstream.description._schemas import PER_SECOND
from flatstream.errors import FlatStreamError
from flatstream.tools._indexes import IndexInfo, index_of_file, index_of_journal
from flatstream.tools._journals import examine_journal
from flatstream.tools._walk import Damage, Totals, check_file, identifier_of, read_to_end, step_of, walk_headers
from flatstream.tools.inputs import Input, NotAStreamError, Opened, UnreadableError, decompression, only_input
from flatstream.transforms.described import begins_as

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.schema import Schema, Table
    from flatstream.tools._times import TimeField
    from flatstream.transforms.ciphers import Cipher
    from flatstream.transforms.encryption import EncryptionReport

__all__ = ["StreamInfo", "info"]

# The table of the messages of an index (`flatstream.index`).
INDEX_TABLE = "flatstream.index.Entry"

# Of files up to this size every payload is checked; of larger ones frames are counted by their headers.
MOST_CHECKED = 64 << 20

# Damaged places that are told.
MOST_TOLD = 10

State = Literal["intact", "torn", "damaged"]


@dataclass(frozen=True)
class StreamInfo:
    """What a file, journal or pipe is, made by `info`.

    Attributes
    ----------
    path : str
        Its name; "-" for standard input.
    kind : {"stream", "journal", "empty", "foreign"}
        "empty" has no bytes; "foreign" is no stream.
    what : str
        The same in words: "a Parquet file".
    hint : str or None
        What can be done with it.
    size : int or None
        In bytes; of a journal, that of its segments.
    checksum, found_by : str or None
        The name of the checksum, and how it is known: "description", "detection", "journal" or "empty file"; None if
        it was given.
    frames, payload_bytes, largest : int or None
        How many intact frames there are, and how many bytes their payloads have: all, and the largest. Those of the
        payloads are None for a journal.
    checked : {"payloads", "headers"} or None
        Whether each payload was compared with its checksum, or frames were only counted by their headers, and those of
        sealed segments as journal.json says.
    state : {"intact", "torn", "damaged"} or None
        "torn": only the last frame was not written to its end. None if it is no stream.
    damage : tuple of Damage
        The first damaged places.
    damaged_places, lost_bytes : int
        How many there are, and how many bytes they have.
    schema : Schema or None
        The schema, if it is known.
    schema_from : {"argument", "description"} or None
        How it is known.
    tables : dict
        The names of the tables that messages may have, by file identifier.
    identifiers : dict
        How many messages have which file identifier ("" is none), of `looked_at` messages.
    looked_at : int
        How many messages were looked at for `identifiers`.
    time_field, time_unit : str or None
        The field with the time of a message, and its unit: "s", "ms", "us" or "ns".
    first_time, last_time : int or None
        The times of the first and the last message, in that unit; None if it has none, which is read as 0.
    description : Description or None
        What the stream says of itself.
    unreadable : str or None
        Why messages cannot be read, if payloads are compressed or encrypted in a way that cannot be undone. Then frames
        are intact if what is stored in them is, and the sizes of payloads are those of what is stored.
    seems : str or None
        Of a stream without a description: "encryption" or "compression", if the first payload begins as one that was
        made so. Its reader has to be told how to undo it.
    encryption : EncryptionReport or None
        What was found of the parts of an encrypted stream, if there was a key.
    writer : str or None
        The process that has it open to write it.
    segments, lost_segments : int or None
        Of a journal.
    index : IndexInfo or None
        The index of a file, or those of a journal's segments, as far as there are any.
    """

    path: str
    kind: Literal["stream", "journal", "empty", "foreign"]
    what: str
    hint: str | None = None
    size: int | None = None
    checksum: str | None = None
    found_by: str | None = None
    frames: int | None = None
    payload_bytes: int | None = None
    largest: int | None = None
    checked: Literal["payloads", "headers"] | None = None
    state: State | None = None
    damage: tuple[Damage, ...] = ()
    damaged_places: int = 0
    lost_bytes: int = 0
    schema: Schema | None = None
    schema_from: Literal["argument", "description"] | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    identifiers: Mapping[str, int] = field(default_factory=dict)
    looked_at: int = 0
    time_field: str | None = None
    time_unit: str | None = None
    first_time: int | None = None
    last_time: int | None = None
    description: Any = None
    unreadable: str | None = None
    seems: str | None = None
    encryption: EncryptionReport | None = None
    writer: str | None = None
    segments: int | None = None
    lost_segments: int | None = None
    index: IndexInfo | None = None

    @property
    def seconds(self) -> float | None:
        """The time from the first message to the last."""
        if self.first_time is None or self.last_time is None or self.time_unit is None:
            return None
        return (self.last_time - self.first_time) / PER_SECOND[self.time_unit]

    @property
    def rate(self) -> float | None:
        """How many messages there are in a second; None if that is not known."""
        seconds = self.seconds
        return (self.frames - 1) / seconds if self.frames and seconds and seconds > 0 else None

    def to_dict(self) -> dict[str, Any]:
        """What is known, as JSON has it: without the schema, and with the description's metadata."""
        skipped = ("schema", "description")
        content = {name: value for name, value in vars(self).items() if name not in skipped}
        content["damage"] = [asdict(one) for one in self.damage]
        content["encryption"] = None if self.encryption is None else asdict(self.encryption)
        content["index"] = None if self.index is None else asdict(self.index)
        content["tables"] = dict(self.tables)
        content["identifiers"] = dict(self.identifiers)
        content |= {"seconds": self.seconds, "rate": self.rate, "description": None}
        if self.description is not None:
            names = ("version", "checksum", "created_ns", "created_by", "serializer", "metadata")
            content["description"] = {name: getattr(self.description, name) for name in names}
            content["description"]["transforms"] = [
                {"name": one.name, "parameters": dict(one.parameters), "data_bytes": len(one.data)}
                for one in self.description.transforms
            ]
        return content


def info(
    source: str | os.PathLike[str] | Input,
    *,
    checksum: Checksum | ChecksumType | str | None = None,
    schema: Schema | str | os.PathLike[str] | None = None,
    table: str | None = None,
    time: str | tuple[str, str] | None = None,
    check: bool | None = None,
    cipher: Cipher | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> StreamInfo:
    """Finds out what a file, journal or pipe is. Nothing is changed.

    Parameters
    ----------
    source : path or Input
        Also a URL, or "-" for standard input.
    checksum : Checksum, ChecksumType or str, optional
        By default it is found.
    schema : Schema or path, optional
        The schema of the messages, instead of the one that the stream describes.
    table : str, optional
        The name or file identifier of their table.
    time : str or (str, str), optional
        The field with the time of a message and its unit: ``"wall_time"``, ``"wall_time:us"``, ``("wall_time", "us")``.
        By default that of the description, or the one whose name says it.
    check : bool, optional
        Whether each payload is compared with its checksum; by default if there are at most 64 MiB.
    cipher : Cipher, optional
        For the messages of an encrypted stream. Without it, `StreamInfo.unreadable` says that it is encrypted.
    progress : callable, optional
        ``progress(offset, size)`` gets how far reading is.

    Returns
    -------
    StreamInfo
        For a file that is no stream, what it seems to be.

    Raises
    ------
    OSError
        It cannot be read.
    LookupError
        There is no such table.
    UnreadableError
        A cipher is given, and it is another one, or the stream is not encrypted.
    ValueError
        The path is that of a folder that is no journal; `time` is no field of integers, or its unit is not known.

    Examples
    --------
    >>> import flatstream, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "events.fs")
    ...     with flatstream.open(path, "w", checksum="crc32") as writer:
    ...         writer.write_payloads([b"first", b"second"])
    ...     found = info(path)
    >>> found.kind, found.checksum, found.frames, found.state
    ('stream', 'crc32', 2, 'intact')
    """
    one = only_input(source)
    size = one.size
    step = step_of(progress, size)
    if one.kind == "journal":
        is_small = (one.size or 0) <= MOST_CHECKED
        return _of_journal(one, checksum, schema, table, time, cipher, is_small if check is None else check, step)
    if one.kind == "file" and size == 0:
        return StreamInfo(one.name, "empty", "an empty file", size=0, found_by="empty file", frames=0, state="intact")
    try:
        opened = one.open(checksum, schema, table, cipher=cipher, stored="if unreadable")
    except UnreadableError:
        raise
    except NotAStreamError as error:
        return _of_foreign(one, error)
    with opened:
        unreadable = opened.unreadable
        times = {} if unreadable is not None else _times(opened, time)
        if one.kind != "file" or opened.compression is not None:
            totals, checked = Totals(), True
            read_to_end(opened.reader, totals, step)
        else:
            totals, checked = _totals_of_file(one, opened, check, step)
        if one.kind == "remote" and (remote := remote_of(opened.reader.source)) is not None:
            # Of a compressed file, that of what is stored, as of a local one.
            size = remote.status.size
        if size is None:
            size = totals.end
        if not totals.frames and not totals.damage and not size:
            return StreamInfo(one.name, "empty", "nothing", size=0, found_by="empty file", frames=0, state="intact")
        return StreamInfo(
            one.name,
            "stream",
            _what(one.name, opened),
            hint=decompression(opened.compression, one.name) if totals.is_cut_off else None,
            size=size,
            checksum=opened.checksum,
            found_by=opened.found_by,
            frames=totals.frames,
            payload_bytes=totals.payload_bytes,
            largest=totals.largest,
            checked="payloads" if checked else "headers",
            state=totals.state,
            damage=tuple(totals.damage[:MOST_TOLD]),
            damaged_places=totals.damaged_places,
            lost_bytes=totals.lost_bytes,
            identifiers={} if unreadable is not None else dict(totals.identifiers.most_common()),
            looked_at=0 if unreadable is not None else totals.looked_at,
            unreadable=unreadable,
            seems=begins_as(totals.first) if opened.description is None else None,
            encryption=totals.encryption,
            writer=who_writes(one.name) if one.kind == "file" else None,
            index=_index_of(one, opened),
            **_schema_fields(opened, is_given=schema is not None),
            **_time_fields(times, totals.first, totals.last),
        )


def _what(name: str, opened: Opened) -> str:
    """What a stream is: that of an index has the table of indexes."""
    if any(root.table == INDEX_TABLE for root in getattr(opened.description, "roots", ())):
        return (
            f"an index of {name.removesuffix(SUFFIX)}" if name.endswith(SUFFIX) else "an index of a flatstream stream"
        )
    return "a flatstream stream" + ("" if opened.compression is None else f", compressed with {opened.compression}")


def _index_of(one: Input, opened: Opened) -> IndexInfo | None:
    """What is known of its index, or of those of its segments."""
    if one.kind in ("file", "remote"):
        return index_of_file(one.name, opened.table, opened.checksum)
    return index_of_journal(one.name, opened.table, opened.checksum) if one.kind == "journal" else None


def _totals_of_file(
    one: Input, opened: Opened, check: bool | None, step: Callable[[int], object]
) -> tuple[Totals, bool]:
    """What is in a file, and whether its payloads were checked."""
    deframer = opened.reader.deframer
    if check is False or (check is None and (one.size or 0) > MOST_CHECKED):
        found = walk_headers(one.name, deframer, step)
        if found is not None:
            return found, False
    # It is small, or its headers do not lead to its end.
    return check_file(one.name, deframer, step=step), True


def _schema_fields(opened: Opened, *, is_given: bool) -> dict[str, Any]:
    tables = dict(opened.tables)
    if opened.table is not None and opened.table not in tables.values():
        tables = {"": opened.table}
    schema = next((table.schema for table in tables.values()), None)
    return {
        "schema": schema,
        "schema_from": None if schema is None else "argument" if is_given else "description",
        "tables": {identifier: table.name for identifier, table in tables.items()},
        "description": opened.description,
    }


def _times(opened: Opened, time: Any) -> dict[str, tuple[Table, TimeField]]:
    """The tables with a time that is known, and its field, by file identifier; "" for messages of any other."""
    tables = {"": opened.table} if opened.table is not None else dict(opened.tables)
    if time is not None and not tables:
        raise ValueError("the field of the time is given, and the schema is not known")
    if not tables:
        return {}
    # Imported for streams with a schema alone.
    from flatstream.tools._fields import field_at

    path = time.partition(":")[0] if isinstance(time, str) else time[0] if isinstance(time, tuple) and time else None
    having = {key: table for key, table in tables.items() if path and field_at(table, path) is not None}
    found = {}
    for identifier, table in (having or tables).items():
        field = _time_field(table, time, opened.description)
        if field is not None:
            found[identifier] = (table, field)
    return found


def _time_field(table: Table, time: Any, description: Description | None) -> TimeField | None:
    from flatstream.tools._times import TimeField, guess_time_field, time_field

    if time is not None:
        return time_field(table, time)
    for root in () if description is None else description.roots:
        if root.table == table.name and root.time_field is not None:
            return TimeField(root.time_field, str(root.time_unit))
    return guess_time_field(table)


def _time_fields(
    times: dict[str, tuple[Table, TimeField]], first: bytes | memoryview | None, last: bytes | memoryview | None
) -> dict[str, Any]:
    """The times of the first and the last message, if their field is known and they can be read."""
    if not times:
        return {}
    fields = {field for _, field in times.values()}
    units = {field.unit for field in fields}
    if len(units) > 1:
        return {}
    values = []
    for payload in (first, last):
        try:
            value = None if payload is None else _value_at(times, payload)
        except (FlatStreamError, AttributeError):
            value = None
        # 0 is what a message without a time has.
        values.append(value or None)
    names = ", ".join(sorted({field.path for field in fields}))
    return {"time_field": names, "time_unit": units.pop(), "first_time": values[0], "last_time": values[1]}


def _value_at(times: dict[str, tuple[Table, TimeField]], payload: bytes | memoryview) -> int | None:
    """The time of a message in the unit of its field; None if the message is of another table."""
    identifier = identifier_of(payload)
    table, field = times.get(identifier) or times.get("") or (None, None)
    if table is None or field is None:
        return None
    path = field.path
    own = table.schema.file_identifier
    if own and identifier not in ("", own):
        return None
    value: Any = table.view(payload)
    for name in path.split("."):
        value = getattr(value, name)
    return int(value) if value is not None else None


# Journals


def _of_journal(
    one: Input,
    checksum: Any,
    schema: Any,
    table: str | None,
    time: Any,
    cipher: Any,
    check: bool,
    step: Callable[[int], object],
) -> StreamInfo:
    with one.open(checksum, schema, table, cipher=cipher, on_error="resync") as opened:
        found = examine_journal(one.name, checksum, everything=check, step=step)
        totals = found.totals
        first = opened.reader.read_message()
        last = None
        if first is not None:
            totals.look_at(first, len(first))
            with one.open(checksum, schema, table, on_error="resync", start=-1) as newest:
                last = newest.reader.read_message()
        return StreamInfo(
            one.name,
            "journal",
            "a journal of flatstream",
            size=one.size,
            checksum=opened.checksum,
            found_by=opened.found_by,
            frames=totals.frames,
            checked="payloads" if check else "headers",
            state=found.state,
            damage=tuple(totals.damage[:MOST_TOLD]),
            damaged_places=totals.damaged_places,
            lost_bytes=totals.lost_bytes,
            identifiers=dict(totals.identifiers),
            looked_at=totals.looked_at,
            writer=found.writer,
            segments=found.segments,
            lost_segments=found.lost_segments,
            index=_index_of(one, opened),
            **_schema_fields(opened, is_given=schema is not None),
            **_time_fields(_times(opened, time), first, last),
        )


# What is no stream


def _of_foreign(one: Input, error: NotAStreamError) -> StreamInfo:
    found = error.found
    if found is None:
        return StreamInfo(one.name, "foreign", str(error), size=one.size)
    return StreamInfo(one.name, "foreign", found.what, hint=found.hint, size=one.size)

"""Times of messages: the field that has them, its unit, and the times of a batch of frames."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from flatstream.description._schemas import UNITS, find_time, unit_of_name
from flatstream.errors import FlatStreamError
from flatstream.framing import Deframer, deframer_for
from flatstream.reader import FrameBatch, StreamReader
from flatstream.schema._reflection import INTEGERS, BaseType
from flatstream.tools._fields import field_at, known_paths
from flatstream.writer import StreamWriter

if TYPE_CHECKING:
    from flatstream.schema import Table

__all__ = ["UNITS", "MessageTimes", "TimeField", "guess_time_field", "time_field", "unit_of_name"]


class TimeField(NamedTuple):
    """The field of a table with the time of a message, and the unit that it counts in."""

    path: str
    unit: str

    @property
    def nanoseconds(self) -> int:
        """How many nanoseconds its unit has."""
        return UNITS[self.unit]


def time_field(table: Table, time: Any, unit: str | None = None) -> TimeField:
    """The time field of a table that a caller names: ``"name"``, ``"name:unit"`` or ``("name", "unit")``.

    Parameters
    ----------
    table : Table
        The table.
    time : str or (str, str)
        The path of the field, and its unit.
    unit : str, optional
        The unit if `time` says none, and the name of the field neither.

    Raises
    ------
    TypeError
        `time` is none of these.
    ValueError
        The table has no such field, the field is no integer, or its unit is not known.
    """
    if isinstance(time, str):
        path, _, said = time.partition(":")
        given: str | None = said or None
    elif isinstance(time, tuple) and len(time) == 2 and all(isinstance(part, str) for part in time):
        path, given = time
    else:
        raise TypeError(f"time must be the name of a field, or (name, unit), got {time!r:.100}")
    field = field_at(table, path)
    if field is None:
        raise ValueError(f"{table.name} has no field {path!r} for the time; it has {known_paths(table)}")
    if field.type.base not in INTEGERS or field.type.base is BaseType.BOOL:
        raise ValueError(f"{path} of {table.name} is no integer, so it is no time")
    found = given or unit_of_name(path) or unit
    if found is None:
        raise ValueError(f"the unit of {path} is not known: say it, as in '{path}:ns', with one of s, ms, us and ns")
    if found not in UNITS:
        raise ValueError(f"the unit of {path} must be one of s, ms, us and ns, got {found!r:.100}")
    return TimeField(path, found)


def guess_time_field(table: Table) -> TimeField | None:
    """The field of a table whose name says that it is the time: ``wall_time_ns``, ``timestamp_us``, ``ts_ms``.

    The name may have anything before these words. If several fields have such names, it is the one that is called
    exactly ``time_...`` or ``timestamp_...``; None if there is none or more than one.
    """
    found = find_time(table)
    return None if found is None else TimeField(*found)


class MessageTimes:
    """Finds the times of the messages in batches of frames.

    Parameters
    ----------
    fields : mapping of str to (Table, TimeField)
        The tables of the stream and their time fields, by file identifier; "" is that of messages with any other.
    only : (Table, TimeField), optional
        The table and time field of all messages, if they are of one table.
    """

    def __init__(
        self, fields: Mapping[str, tuple[Table, TimeField]], only: tuple[Table, TimeField] | None = None
    ) -> None:
        self._fields = dict(fields)
        self._only = only

    def of(self, batch: FrameBatch, deframer: Deframer | None) -> list[int | None]:
        """The time of each message in nanoseconds; None for a message that has none or is of another table.

        Parameters
        ----------
        batch : FrameBatch
            The frames.
        deframer : Deframer or None
            A deframer without observers and validators that reads ``batch.buffer``; None if there is none.
        """
        if self._only is not None:
            found = self._column(batch, deframer)
            if found is not None:
                return found
        return [self._time_of(payload) for payload in batch]

    def _column(self, batch: FrameBatch, deframer: Deframer | None) -> list[int | None] | None:
        """The times, read as a column; None if not every message is one of the table."""
        assert self._only is not None
        table, field = self._only
        source: Any = batch.buffer
        if deframer is None:
            source, deframer = _plain_frames(batch), deframer_for(None)
        with StreamReader(source, deframer) as reader:
            try:
                rows = reader.columns(table, [field.path], enums="number")
            except FlatStreamError:
                return None
        if rows.num_rows != len(batch):
            return None
        scale = field.nanoseconds
        values: list[int | None] = rows[field.path].to_pylist()
        if scale == 1:
            return values
        return [None if value is None else value * scale for value in values]

    def _time_of(self, payload: memoryview) -> int | None:
        found = self._only or self._fields.get(bytes(payload[4:8]).decode("latin-1")) or self._fields.get("")
        if found is None:
            return None
        table, field = found
        try:
            value: Any = table.view(payload, verify=False)
            for name in field.path.split("."):
                value = None if value is None else value[name]
        except FlatStreamError:
            return None
        return None if value is None else int(value) * field.nanoseconds


def _plain_frames(batch: FrameBatch) -> bytes:
    """The messages of a batch as a stream without a checksum."""
    sink = io.BytesIO()
    with StreamWriter(sink) as writer:
        writer.write_payloads(batch)
    return sink.getvalue()

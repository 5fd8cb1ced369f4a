"""The arguments of one conversion, and what is known of the messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flatstream.description import Description
from flatstream.reader import StreamReader
from flatstream.schema import Schema, Table
from flatstream.tools.inputs import pick_table

__all__ = ["ArgumentError", "Known", "Losses", "OnUnsupported", "Options", "known_of_description", "table_for_columns"]


class ArgumentError(ValueError):
    """An argument does not fit: the source, the new file or another argument. Nothing was written."""


OnUnsupported = Literal["raise", "json", "omit"]


@dataclass
class Losses:
    """What was left out: messages of other tables, and what is damaged.

    `stop_error` is the damage at which ``on_error="stop"`` ended.
    """

    others: int = 0
    skipped: int = 0
    lost_bytes: int = 0
    stop_error: str | None = None

    def note(self, reader: StreamReader) -> None:
        """Adds what a reader left out, which was read to its end."""
        self.skipped += reader.skipped
        self.lost_bytes += reader.lost_bytes
        if reader.stop_error is not None:
            self.stop_error = str(reader.stop_error)


def _nothing() -> None:
    """Does nothing: the progress of a conversion whose caller asks for none."""


@dataclass(frozen=True)
class Options:
    """The arguments of `convert` that sources and targets need."""

    checksum: Any = None
    to_checksum: Any = None
    schema: Schema | None = None
    table: str | None = None
    fields: tuple[str, ...] | None = None
    where: Any = None
    on_error: Literal["raise", "skip", "stop", "resync"] = "raise"
    on_unsupported: OnUnsupported = "raise"
    enums: Literal["dictionary", "number"] = "dictionary"
    time_field: str | None = None
    time_unit: str | None = None
    compression: str | None = None
    compressor: Any = None
    describe: bool = True
    cipher: Any = None
    decrypt: bool = False
    progress: Callable[[int, int | None], object] | None = None
    losses: Losses = field(default_factory=Losses)
    # Called after each batch.
    tick: Callable[[], object] = _nothing

    def read_piece(self, frames: Any) -> StreamReader:
        """A reader of frames in memory, without a checksum."""
        return StreamReader(frames, on_error=self.on_error, allow_empty=True)

    def conditions_for(self, table: Table, known: Known) -> Any:
        """`where`, or what it returns for the table if it is a function."""
        return self.where(table, known.description) if callable(self.where) else self.where


@dataclass(frozen=True)
class Known:
    """What is known of the messages: from the source, or from the arguments.

    Attributes
    ----------
    tables : dict
        The tables that messages can have, by file identifier; "" for those without one.
    table : Table or None
        The table of all messages that count.
    checksum : str or None
        That of the stream that is or was the source.
    time : (str, str) or None
        The path of the field with the time of a message, and its unit.
    description : Description or None
        The description of the source.
    is_chosen : bool
        Whether the source itself has chosen the messages of the table that was asked for.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    table: Table | None = None
    checksum: str | None = None
    time: tuple[str, str] | None = None
    description: Description | None = None
    is_chosen: bool = False

    def with_schema(self, options: Options) -> Known:
        """The same, with the schema and the table that the caller gave."""
        if self.is_chosen:
            return self
        known = self
        if options.schema is not None:
            known = replace(known, tables=tables_of(options.schema), table=None)
        if options.table is not None or known.table is None:
            found = pick_table(known.tables, options.schema, options.table)
            known = replace(known, table=found)
            if found is not None and options.table is not None and found not in known.tables.values():
                known = replace(known, tables={"": found})
        return known

    def time_of(self, table: Table) -> tuple[str, str] | None:
        """The field with the time of the messages of a table, and its unit, as far as the source says it."""
        if self.time is not None and table == self.table:
            return self.time
        for root in () if self.description is None else self.description.roots:
            if root.table == table.name and root.time_field is not None and root.time_unit is not None:
                return root.time_field, root.time_unit
        return None

    def describe(self, options: Options, only: Table | None = None) -> Description | None:
        """The description of the new file: that of the source, with what the caller gave. None without a schema.

        With `only`, it is about the messages of one table.
        """
        tables = dict(self.tables) if only is None else {known_identifier(only): only}
        old = self.description
        if old is not None and (tables == old.tables or not tables) and options.time_field is None:
            # The target says what it does to payloads.
            return old._with_transforms(())
        if not tables:
            return None
        time = None
        if len(tables) == 1:
            table = next(iter(tables.values()))
            time = self.time_of(table) if options.time_field is None else (options.time_field, options.time_unit)
        return Description(
            tables,
            metadata=None if old is None else old.metadata,
            time_field=None if time is None else time[0],
            time_unit=None if time is None else time[1],
            created_ns=None if old is None else old.created_ns,
            created_by=None if old is None else old.created_by,
        )


def known_identifier(table: Table) -> str:
    """The file identifier that messages of a table can have."""
    return table.schema.file_identifier if table == table.schema.root else ""


def tables_of(schema: Schema) -> dict[str, Table]:
    """The root of a schema, by its file identifier."""
    root = schema.root
    return {} if root is None else {schema.file_identifier: root}


def known_of_description(description: Description) -> Known:
    """What a description says of the messages."""
    tables = description.tables
    only = next(iter(tables.values())) if len(tables) == 1 else None
    return Known(tables, only, description.checksum, description=description)


def table_for_columns(known: Known, what: str) -> Table:
    """The one table that a format needs.

    Raises
    ------
    ValueError
        It is not known, or there are several.
    """
    if known.table is not None:
        return known.table
    if known.tables:
        names = ", ".join(sorted(table.name for table in known.tables.values()))
        raise ArgumentError(
            f"{what} has messages of one table, and the source has several: choose one with table=, of {names}"
        )
    serializer = None if known.description is None else known.description.serializer
    if serializer is not None:
        raise ArgumentError(
            f"{what} needs messages that are FlatBuffers, and those of the source are objects ({serializer:.100}), "
            "which become JSON lines or CSV"
        )
    raise ArgumentError(
        f"{what} needs the schema of the messages, which the source does not say: pass schema= (--schema)"
    )

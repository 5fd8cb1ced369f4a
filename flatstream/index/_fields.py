"""The fields of an index: which ones there can be, and what has to be the same for a range to be of use."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flatstream.description._schemas import find_time

if TYPE_CHECKING:
    from flatstream.description import Description
    from flatstream.schema import Table

__all__ = ["MAX_FIELDS", "IndexedField", "choose_fields", "field_at", "identifier_of", "others_of"]

# Each has some 20 bytes in each block.
MAX_FIELDS = 1000

NUMBERS = ("bool", "byte", "ubyte", "short", "ushort", "int", "uint", "long", "ulong", "float", "double")


@dataclass(frozen=True)
class IndexedField:
    """A field of an index.

    Attributes
    ----------
    path : str
        The path, as "header.time_ns".
    kind : str
        How a value is stored: "long", "ubyte", "double", "bool" and so on, also for enums.
    default : str or None
        The value of a message that does not store one, as text; None if that is null.
    steps : tuple of int
        Where each step of the path is: the entry in the vtable of a table, or the offset in a struct.
    unit : str or None
        The unit of a time: "s", "ms", "us" or "ns".
    """

    path: str
    kind: str
    default: str | None
    steps: tuple[int, ...]
    unit: str | None = None

    @property
    def form(self) -> str:
        """What its numbers are compared as: "signed", "unsigned" or "floating"."""
        return {"float": "floating", "double": "floating", "ulong": "unsigned"}.get(self.kind, "signed")

    def is_read_as(self, other: IndexedField) -> bool:
        """Whether the values of both in a message are the same."""
        return (self.path, self.kind, self.default, self.steps) == (other.path, other.kind, other.default, other.steps)


def field_at(table: Table, path: str, unit: str | None = None) -> IndexedField:
    """The field at a path of a table.

    Raises
    ------
    KeyError
        The table has no such field.
    TypeError
        It is no number, bool or enum, or it is inside of a vector or a union.
    """
    if not isinstance(path, str):
        raise TypeError(f"the path of a field must be a str, got {type(path).__name__}: {path!r:.100}")
    return _find(table, path, unit)


# The fields of a table are made anew by each access, which takes longer than all else of loading an index.
@functools.lru_cache(maxsize=256)
def _find(table: Table, path: str, unit: str | None) -> IndexedField:
    fields = table.fields
    inside = table.name
    steps = []
    names = path.split(".")
    for i, name in enumerate(names):
        if name not in fields:
            raise KeyError(f"no field {path!r:.200}: {inside} has no {name!r:.100}")
        field = fields[name]
        steps.append(field.offset)
        if i == len(names) - 1:
            break
        if field.kind not in ("table", "struct") or field.type_name is None:
            raise TypeError(
                f"an index has ranges of numbers in tables and structs, and {'.'.join(names[: i + 1])!r:.200} is "
                f"of the type {field.type}: {path!r:.200}"
            )
        inside = field.type_name
        fields = table.schema.structs[inside].fields if field.kind == "struct" else table.schema.table(inside).fields
    if field.kind not in NUMBERS:
        raise TypeError(
            f"an index has ranges of numbers, bools and enums, and {path!r:.200} is of the type {field.type}"
        )
    default = None if field.default is None else repr(field.default)
    return IndexedField(path, field.kind, default, tuple(steps), unit)


class NoTimeFieldError(ValueError):
    """No field of an index is named, and none is known to be the time.

    Parameters
    ----------
    table, example : str
        The name of the table, and that of a field of it that can be indexed.
    """

    def __init__(self, table: str, example: str) -> None:
        super().__init__(table, example)
        self.table, self.example = table, example

    @property
    def reason(self) -> str:
        """What is wrong, without what to pass."""
        return f"{self.table} has no time field: neither does a description say which it is, nor the name of one field"

    def __str__(self) -> str:
        return (
            f"{self.reason}. Say which fields get an index, as in index=[{self.example!r}] (of build_index, "
            f"fields=[{self.example!r}]); or describe the stream with its time, as in time_field={self.example!r}, "
            "time_unit='ns'"
        )


def choose_fields(table: Table, fields: Iterable[str] | None, description: Description | None) -> list[IndexedField]:
    """The fields that an index gets.

    Parameters
    ----------
    table : Table
        Of the messages.
    fields : iterable of str or None
        Their paths; None for the time field that the description has for this table, or whose name says that it is the
        time.
    description : Description or None
        That of the stream.

    Raises
    ------
    NoTimeFieldError
        There is no such time field.
    ValueError
        The fields are none, too many, or one is there twice.
    KeyError, TypeError
        See `field_at`.
    """
    time = _time_of(table, description)
    if fields is None:
        if time is None:
            raise NoTimeFieldError(table.name, _example(table))
        return [field_at(table, *time)]
    if isinstance(fields, (str, bytes)) or not hasattr(type(fields), "__iter__"):
        raise TypeError(f"the fields of an index must be a list of paths, got {type(fields).__name__}: {fields!r:.100}")
    chosen = list(fields)
    if not 0 < len(chosen) <= MAX_FIELDS:
        raise ValueError(f"an index has 1 to {MAX_FIELDS} fields, got {len(chosen)}")
    found = [field_at(table, path, time[1] if time is not None and time[0] == path else None) for path in chosen]
    for i, path in enumerate(chosen):
        if path in chosen[:i]:
            raise ValueError(f"the field {path!r:.200} is there twice")
    return found


def identifier_of(table: Table) -> str:
    """The file identifier that messages of a table carry; "" for none."""
    layout = table.layout
    return layout.file_identifier.decode("latin-1") if table.number == layout.root else ""


def others_of(table: Table) -> tuple[str, ...] | None:
    """The file identifiers of the stream's other tables; None for a table that is the only one."""
    others: tuple[str, ...] | None = getattr(table, "_others", None)
    return others


def _time_of(table: Table, description: Description | None) -> tuple[str, str | None] | None:
    """The path of the time field of a table, and its unit."""
    identifier = identifier_of(table)
    roots = () if description is None else description.roots
    for root in roots:
        if root.table == table.name and (len(roots) == 1 or root.file_identifier == identifier):
            return None if root.time_field is None else (root.time_field, root.time_unit)
    return find_time(table)


def _example(table: Table) -> str:
    numbers: list[Any] = [name for name, field in table.fields.items() if field.kind in NUMBERS]
    return numbers[0] if numbers else "my_field"
